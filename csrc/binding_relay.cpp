#include "binding_relay.h"

#include <pybind11/stl.h>

#include <chrono>
#include <exception>
#include <optional>
#include <utility>

#include "binding_wait.h"
#include "error.h"
#include "io/relay.h"

namespace sucrose {

namespace {

// A load as Python has it. The ticket, which has the engine, and with it the memory, goes last.
struct PythonLoad {
    py::object ticket;
    Relay::Load load;
};

Relay &relay_of(const Job &job) {
    if (job.relay() == nullptr) {
        throw Error("the bytes of this operation are in a file: there is nothing to carry");
    }
    return *job.relay();
}

// nullopt at the end. Of a job that has failed it throws the error.
std::optional<PythonLoad> next_load(const py::object &ticket, std::optional<double> timeout_s) {
    auto &job = ticket.cast<Job &>();
    Relay &relay = relay_of(job);
    std::optional<Relay::Load> load;
    Relay::Taken taken = Relay::Taken::nothing_yet;
    const bool told = wait_interruptibly(job, timeout_s, [&](std::chrono::milliseconds timeout) {
        taken = relay.take(timeout, load);
        return taken != Relay::Taken::nothing_yet;
    });
    if (!told) {
        PyErr_SetString(PyExc_TimeoutError, "nothing was there to be carried in time");
        throw py::error_already_set();
    }
    if (taken == Relay::Taken::closed) {
        wait_for_end(job, std::nullopt);
    }
    if (!load) {
        return std::nullopt;
    }
    return PythonLoad{ticket, std::move(*load)};
}

} // namespace

void bind_relay(py::module_ &module, py::class_<Job, std::shared_ptr<Job>> &ticket) {
    py::class_<PythonLoad>(module, "Load", py::buffer_protocol())
        .def_buffer([](const PythonLoad &held) {
            const std::span<std::byte> bytes = held.load.bytes();
            return py::buffer_info(reinterpret_cast<std::uint8_t *>(bytes.data()),
                                   static_cast<py::ssize_t>(bytes.size()));
        })
        .def_property_readonly("offset", [](const PythonLoad &held) { return held.load.offset(); })
        .def(
            "settle", [](PythonLoad &held, int error_number) { held.load.settle(error_number); },
            py::arg("error_number"));

    ticket.def("next_load", &next_load, py::arg("timeout_s") = py::none())
        .def(
            "fail",
            [](Job &job, int error_number) {
                job.fail(std::make_exception_ptr(
                    SystemError(error_number, "relay", relay_of(job).name())));
            },
            py::arg("error_number"), py::call_guard<py::gil_scoped_release>());
}

} // namespace sucrose
