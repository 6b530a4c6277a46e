#include "cuda_driver.h"

#include <dlfcn.h>

#include "handle.h"

namespace sucrose {

namespace {

struct LibraryTraits {
    using value_type = void *;
    static void *invalid() noexcept { return nullptr; }
    static void close(void *library) noexcept { ::dlclose(library); }
};

// CUresult and its success value, as the driver's ABI fixes them.
using CudaResult = int;
constexpr CudaResult cuda_success = 0;

} // namespace

CudaDriverInfo probe_cuda_driver() {
    const UniqueHandle<LibraryTraits> library(::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL));
    if (!library) {
        return {0, ::dlerror()};
    }
    auto *get_version =
        reinterpret_cast<CudaResult (*)(int *)>(::dlsym(library.get(), "cuDriverGetVersion"));
    int version = 0;
    if (get_version == nullptr || get_version(&version) != cuda_success) {
        return {0, "libcuda.so.1 does not tell its version"};
    }
    return {version, ""};
}

} // namespace sucrose
