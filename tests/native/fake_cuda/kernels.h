// Launches of the core's device kernels, carried out on the host.
#pragma once
#include "cuda/cuda_driver.h"
#include <cstddef>
#include <functional>
#include <string_view>
namespace fake_cuda {
// The memory behind a device address; of at least `nbytes` bytes.
using Translate = std::function<std::byte *(sucrose::DeviceAddress, std::size_t nbytes)>;
// Copies the parameters of a launch and returns what carries it out; empty for unknown kernels.
std::function<void(const Translate &)> capture_launch(std::string_view name, unsigned grid_x,
                                                      unsigned block_x, void **parameters);
// Whether there is a kernel of that name.
bool knows(std::string_view name);
} // namespace fake_cuda
