#include "build_info.h"

#include <zstd.h>

#include "build_config.h"
#include "cuda/cuda_driver.h"
#include "hash/digest.h"
#include "io/file_io.h"

namespace sucrose {

std::vector<std::pair<std::string, std::string>> build_info() {
    const std::string liburing = SUCROSE_LIBURING_VERSION;
    std::string uring_why_not;
    constexpr std::size_t probe_depth = 2;
    const bool uring_usable = try_make_uring_backend(probe_depth, uring_why_not) != nullptr;
    std::string cuda_why_not;
    const auto cuda = CudaDriver::open("auto", cuda_why_not);
    return {
        {"version", SUCROSE_VERSION},
        {"compiler", SUCROSE_COMPILER},
        {"flags", SUCROSE_CXX_FLAGS},
        {"build_type", SUCROSE_BUILD_TYPE},
        {"zstd", ZSTD_versionString()},
        {"xxhash", SUCROSE_XXHASH_VERSION},
        {"digest_kernel", std::string(digest_kernel_name())},
        {"sha256_kernel", std::string(sha256_kernel_name())},
        {"io_uring_built", liburing.empty() ? "no" : "yes, liburing " + liburing},
        {"io_uring_usable", uring_usable ? "yes" : "no: " + uring_why_not},
        {"cuda_driver", cuda == nullptr ? "none: " + cuda_why_not
                                        : std::to_string(cuda->version() / 1000) + "." +
                                              std::to_string(cuda->version() % 1000 / 10)},
    };
}

} // namespace sucrose
