// Entry points of the driver: streams and events.

#include <utility>

#include "exports.h"
#include "state.h"

namespace sucrose::cuda {

using namespace fake_cuda;

namespace {

std::uint64_t number(const void *handle) {
    return reinterpret_cast<std::uint64_t>(handle);
}

} // namespace

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    return in_context(__func__, [&](const Call &call) {
        if (flags > stream_non_blocking) {
            return error_invalid_value;
        }
        const StreamKind kind =
            flags == stream_non_blocking ? StreamKind::non_blocking : StreamKind::blocking;
        *stream = reinterpret_cast<CUstream>(call.state.scheduler.create_stream(call.device, kind));
        return success;
    });
}

CUresult cuStreamDestroy_v2(CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        if (!call.state.scheduler.destroy_stream(number(stream))) {
            return call.refuse_handle("stream", stream);
        }
        return success;
    });
}

CUresult cuStreamSynchronize(CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        const StreamQueue *found = call.find_stream(stream);
        if (found == nullptr) {
            return error_invalid_handle;
        }
        // By value: the stream may go while this waits.
        const std::shared_ptr<const Point> last = found->last;
        call.state.scheduler.wait(call.lock, last);
        return success;
    });
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    return in_context(__func__, [&](const Call &call) {
        StreamQueue *found = call.find_stream(stream);
        if (found == nullptr) {
            return error_invalid_handle;
        }
        const EventState *awaited = call.state.scheduler.find_event(number(event));
        if (awaited == nullptr) {
            return call.refuse_handle("event", event);
        }
        call.state.scheduler.enqueue_wait(*found, awaited->recorded);
        return success;
    });
}

CUresult cuStreamIsCapturing(CUstream stream, int *status) {
    return in_context(__func__, [&](const Call &call) {
        const StreamQueue *found = call.find_stream(stream);
        if (found == nullptr) {
            return error_invalid_handle;
        }
        *status = found == call.state.captured ? 1 : stream_capture_status_none;
        return success;
    });
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode) {
    return without_context(__func__, [&](const Call &) {
        std::swap(*mode, capture_mode());
        return success;
    });
}

CUresult cuEventCreate(CUevent *event, unsigned) {
    return in_context(__func__, [&](const Call &call) {
        *event = reinterpret_cast<CUevent>(call.state.scheduler.create_event(call.device));
        return success;
    });
}

CUresult cuEventDestroy_v2(CUevent event) {
    return in_context(__func__, [&](const Call &call) {
        if (!call.state.scheduler.destroy_event(number(event))) {
            return call.refuse_handle("event", event);
        }
        return success;
    });
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    return in_context(__func__, [&](const Call &call) {
        EventState *recorded = call.state.scheduler.find_event(number(event));
        if (recorded == nullptr) {
            return call.refuse_handle("event", event);
        }
        StreamQueue *found = call.find_stream(stream);
        if (found == nullptr || found->device != recorded->device) {
            return error_invalid_handle;
        }
        recorded->recorded = call.state.scheduler.enqueue_wait(*found, nullptr);
        return success;
    });
}

CUresult cuEventQuery(CUevent event) {
    return in_context(__func__, [&](const Call &call) {
        const EventState *asked = call.state.scheduler.find_event(number(event));
        if (asked == nullptr) {
            return call.refuse_handle("event", event);
        }
        return !asked->recorded || asked->recorded->reached ? success : error_not_ready;
    });
}

CUresult cuEventSynchronize(CUevent event) {
    return in_context(__func__, [&](const Call &call) {
        const EventState *awaited = call.state.scheduler.find_event(number(event));
        if (awaited == nullptr) {
            return call.refuse_handle("event", event);
        }
        const std::shared_ptr<const Point> recorded = awaited->recorded;
        call.state.scheduler.wait(call.lock, recorded);
        return success;
    });
}

} // namespace sucrose::cuda
