// Faults and the journal, for sucrose.testing.
#pragma once

#include <pybind11/pybind11.h>

namespace sucrose {

void bind_faults(pybind11::module_ &module);

} // namespace sucrose
