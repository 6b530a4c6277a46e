// What is written down of the program's calls, and the failures that are prepared for them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "errors.h"
#include "fake_cuda.h"

namespace fake_cuda {

// Guarded by the driver's mutex.
class Journal {
public:
    // Counts a call. What it has to return, or success where no failure is prepared.
    CUresult admit(std::string_view function);
    int call_count(std::string_view function) const;

    void fail(std::string_view function, unsigned nth, CUresult result, bool sticky);
    void clear_failures() { failures_.clear(); }

    void violation(std::string what);
    unsigned violations() const { return violations_; }
    const std::string &first_violation() const { return first_violation_; }

    fake_cuda_stats_t stats{}; // without what is there now

private:
    struct Failure {
        unsigned calls_before = 0; // that still succeed
        CUresult result = 0;
        bool sticky = false;
    };

    CUresult result_for(std::string_view function);

    std::map<std::string, int, std::less<>> call_counts_;
    std::map<std::string, Failure, std::less<>> failures_;
    unsigned violations_ = 0;
    std::string first_violation_;
};

} // namespace fake_cuda
