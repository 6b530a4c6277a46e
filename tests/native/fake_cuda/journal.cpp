#include "journal.h"

#include <numeric>
#include <utility>

namespace fake_cuda {

using sucrose::cuda::success;

CUresult Journal::admit(std::string_view function) {
    ++call_counts_.try_emplace(std::string(function), 0).first->second;
    const CUresult of_any = result_for("*");
    const CUresult of_this = result_for(function);
    return of_this != success ? of_this : of_any;
}

CUresult Journal::result_for(std::string_view function) {
    const auto found = failures_.find(function);
    if (found == failures_.end()) {
        return success;
    }
    const Failure failure = found->second;
    if (failure.calls_before > 0) {
        --found->second.calls_before;
        return success;
    }
    if (!failure.sticky) {
        failures_.erase(found);
    }
    return failure.result;
}

int Journal::call_count(std::string_view function) const {
    if (function == "*") {
        return std::accumulate(call_counts_.begin(), call_counts_.end(), 0,
                               [](int sum, const auto &count) { return sum + count.second; });
    }
    const auto found = call_counts_.find(function);
    return found == call_counts_.end() ? 0 : found->second;
}

void Journal::fail(std::string_view function, unsigned nth, CUresult result, bool sticky) {
    failures_.insert_or_assign(std::string(function),
                               Failure{nth > 0 ? nth - 1 : 0, result, sticky});
}

void Journal::violation(std::string what) {
    if (violations_++ == 0) {
        first_violation_ = std::move(what);
    }
}

} // namespace fake_cuda
