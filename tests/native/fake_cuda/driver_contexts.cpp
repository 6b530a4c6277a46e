// Entry points of the driver: itself, its devices, and their primary contexts.

#include <array>

#include "exports.h"
#include "state.h"

namespace sucrose::cuda {

using namespace fake_cuda;

namespace {

struct ErrorText {
    CUresult result;
    const char *name;
    const char *text;
};

constexpr std::array error_texts = {
    ErrorText{success, "CUDA_SUCCESS", "no error"},
    ErrorText{error_invalid_value, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    ErrorText{error_out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    ErrorText{error_not_initialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    ErrorText{error_deinitialized, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    ErrorText{error_no_device, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    ErrorText{error_invalid_device, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    ErrorText{error_invalid_context, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    ErrorText{209, "CUDA_ERROR_NO_BINARY_FOR_GPU",
              "no kernel image is available for execution on the device"},
    ErrorText{error_invalid_handle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    ErrorText{error_not_found, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    ErrorText{error_not_ready, "CUDA_ERROR_NOT_READY", "device not ready"},
    ErrorText{700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    ErrorText{error_context_is_destroyed, "CUDA_ERROR_CONTEXT_IS_DESTROYED",
              "context is destroyed"},
    ErrorText{error_host_memory_already_registered, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
              "part or all of the requested memory range is already mapped"},
    ErrorText{error_host_memory_not_registered, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
              "pointer does not correspond to a registered memory region"},
    ErrorText{719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    ErrorText{error_not_supported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    ErrorText{999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

CUresult find_text(CUresult result, const char *ErrorText::*member, const char **text) {
    *text = nullptr;
    for (const ErrorText &error : error_texts) {
        if (error.result == result) {
            *text = error.*member;
            return success;
        }
    }
    return error_invalid_value;
}

} // namespace

CUresult cuInit(unsigned flags) {
    State &driver = state();
    const Lock lock(driver.mutex);
    if (const CUresult result = driver.journal.admit(__func__); result != success) {
        return result;
    }
    if (flags != 0) {
        return error_invalid_value;
    }
    if (driver.device_count() == 0) {
        return error_no_device;
    }
    driver.initialized = true;
    return success;
}

CUresult cuDriverGetVersion(int *version) {
    State &driver = state();
    const Lock lock(driver.mutex);
    *version = 13000;
    return driver.journal.admit(__func__);
}

CUresult cuGetErrorName(CUresult result, const char **name) {
    return find_text(result, &ErrorText::name, name);
}

CUresult cuGetErrorString(CUresult result, const char **text) {
    return find_text(result, &ErrorText::text, text);
}

CUresult cuDeviceGetCount(int *count) {
    return without_context(__func__, [&](const Call &call) {
        *count = call.state.device_count();
        return success;
    });
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    return without_context(__func__, [&](const Call &call) {
        if (ordinal < 0 || ordinal >= call.state.device_count()) {
            return error_invalid_device;
        }
        *device = ordinal;
        return success;
    });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    return without_context(__func__, [&](const Call &call) {
        if (device < 0 || device >= call.state.device_count()) {
            return error_invalid_device;
        }
        ++call.state.retained[static_cast<std::size_t>(device)];
        *context = context_of(device);
        return success;
    });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    return without_context(__func__, [&](const Call &call) {
        if (device < 0 || device >= call.state.device_count()) {
            return error_invalid_device;
        }
        unsigned &retained = call.state.retained[static_cast<std::size_t>(device)];
        if (retained == 0) {
            return error_invalid_context;
        }
        if (--retained == 0) {
            call.state.destroy_context(call.lock, device);
        }
        return success;
    });
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
    return without_context(__func__, [&](const Call &call) {
        const int device = device_of(call.state, context);
        if (device < 0) {
            return error_invalid_context;
        }
        if (call.state.retained[static_cast<std::size_t>(device)] == 0) {
            return error_context_is_destroyed;
        }
        context_stack(call.state).push_back(device);
        return success;
    });
}

CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    return without_context(__func__, [&](const Call &call) {
        std::vector<int> &stack = context_stack(call.state);
        if (stack.empty()) {
            return error_invalid_context;
        }
        if (context != nullptr) {
            *context = context_of(stack.back());
        }
        stack.pop_back();
        return success;
    });
}

} // namespace sucrose::cuda
