// What Python sees of relayed jobs: their transfers.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "pipeline.h"

namespace sucrose {

void bind_relay(pybind11::module_ &module, pybind11::class_<Job, std::shared_ptr<Job>> &ticket);

} // namespace sucrose
