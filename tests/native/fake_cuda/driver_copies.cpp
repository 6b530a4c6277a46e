// Entry points of the driver: copies.

#include "copies.h"
#include "exports.h"

namespace sucrose::cuda {

using namespace fake_cuda;

namespace {

constexpr std::size_t max_pitch = 0x7fffffff; // CU_DEVICE_ATTRIBUTE_MAX_PITCH of today's devices

CopySide on_device(DeviceAddress address) {
    return {static_cast<std::uint64_t>(address), 0, true};
}

CopySide on_host(const void *address) {
    return {reinterpret_cast<std::uint64_t>(address), 0, false};
}

bool is_valid(const Memcpy2D &copy) {
    const auto known = [](unsigned type) {
        return type == memory_type_host || type == memory_type_device;
    };
    const bool between_hosts =
        copy.src_memory_type == memory_type_host && copy.dst_memory_type == memory_type_host;
    const auto fits = [&](std::size_t x_nbytes, std::size_t pitch) {
        return x_nbytes + copy.width_nbytes <= pitch && pitch <= max_pitch;
    };
    return known(copy.src_memory_type) && known(copy.dst_memory_type) && !between_hosts &&
           fits(copy.src_x_nbytes, copy.src_pitch) && fits(copy.dst_x_nbytes, copy.dst_pitch);
}

} // namespace

CUresult cuMemcpyDtoHAsync_v2(void *target, CUdeviceptr source, std::size_t nbytes,
                              CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        return enqueue_copy(call, {on_device(source), on_host(target), nbytes}, stream);
    });
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, std::size_t nbytes,
                              CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        return enqueue_copy(call, {on_host(source), on_device(target), nbytes}, stream);
    });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, std::size_t nbytes,
                              CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        return enqueue_copy(call, {on_device(source), on_device(target), nbytes}, stream);
    });
}

CUresult cuMemcpy2DAsync_v2(const Memcpy2D *copy, CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        if (!is_valid(*copy)) {
            return error_invalid_value;
        }
        CopySide source = copy->src_memory_type == memory_type_device ? on_device(copy->src_device)
                                                                      : on_host(copy->src_host);
        source.address += copy->src_y * copy->src_pitch + copy->src_x_nbytes;
        source.pitch = copy->src_pitch;
        CopySide target = copy->dst_memory_type == memory_type_device ? on_device(copy->dst_device)
                                                                      : on_host(copy->dst_host);
        target.address += copy->dst_y * copy->dst_pitch + copy->dst_x_nbytes;
        target.pitch = copy->dst_pitch;
        ++call.state.journal.stats.copies_2d;
        return enqueue_copy(call, {source, target, copy->width_nbytes, copy->height}, stream);
    });
}

} // namespace sucrose::cuda
