// The CUDA driver, opened at run time: the core neither builds nor links against CUDA.
#pragma once

#include <string>

namespace sucrose {

// What is known of this machine's driver.
struct CudaDriverInfo {
    int version = 0;     // as the driver reports it: 13000 is 13.0; 0 where there is none
    std::string why_not; // why there is none
};

CudaDriverInfo probe_cuda_driver();

} // namespace sucrose
