// How this core was built, and what it finds on this machine.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sucrose {

// Names and values, for people and bug reports.
std::vector<std::pair<std::string, std::string>> build_info();

} // namespace sucrose
