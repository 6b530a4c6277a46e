#include "cuda/cuda_driver.h"

#include <dlfcn.h>

#include "error.h"

namespace sucrose {

using namespace cuda;

std::shared_ptr<const CudaDriver> CudaDriver::open(const std::string &library,
                                                   std::string &why_not) {
    if (library == "off") {
        why_not = "switched off";
        return nullptr;
    }
    const std::string name = library == "auto" ? "libcuda.so.1" : library;
    void *handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        why_not = ::dlerror();
        return nullptr;
    }
    std::shared_ptr<CudaDriver> driver(new CudaDriver);
    Functions &functions = driver->functions_;
    const char *missing = nullptr;
    auto find = [&]<typename Function>(Function &function, const char *symbol) {
        function = reinterpret_cast<Function>(::dlsym(handle, symbol));
        if (function == nullptr) {
            missing = symbol;
        }
    };
#define SUCROSE_FIND(symbol, parameters) find(functions.symbol, #symbol);
    SUCROSE_CUDA_FUNCTIONS(SUCROSE_FIND)
#undef SUCROSE_FIND
    if (missing != nullptr) {
        why_not = name + " has no " + missing + ": a newer driver is needed";
        return nullptr;
    }
    try {
        driver->check(functions.cuInit(0), "cuInit");
        driver->check(functions.cuDriverGetVersion(&driver->version_), "cuDriverGetVersion");
        driver->check(functions.cuDeviceGetCount(&driver->device_count_), "cuDeviceGetCount");
    } catch (const CudaFailure &failure) {
        why_not = failure.what();
        return nullptr;
    }
    if (driver->device_count_ == 0) {
        why_not = name + " finds no device";
        return nullptr;
    }
    return driver;
}

void CudaDriver::check(CUresult result, const char *call) const {
    if (result == success) {
        return;
    }
    const char *name = nullptr;
    const char *text = nullptr;
    functions_.cuGetErrorName(result, &name);
    functions_.cuGetErrorString(result, &text);
    throw CudaFailure(result, std::string(call) + ": " + (name != nullptr ? name : "error ") +
                                  (name != nullptr ? "" : std::to_string(result)) +
                                  (text != nullptr ? std::string(" (") + text + ")" : ""));
}

} // namespace sucrose
