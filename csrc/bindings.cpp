// The only file that knows Python: casts, exception translation, and the GIL. Everything that may
// block releases the GIL and reacts to Ctrl-C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <optional>

#include "build_info.h"
#include "engine.h"
#include "error.h"

namespace py = pybind11;

namespace sucrose {

namespace {

// How long Ctrl-C may have to wait.
constexpr std::chrono::milliseconds signal_interval{50};

// (extent, shape, strides in bytes, item size)
using StridesTuple =
    std::tuple<std::size_t, std::vector<std::int64_t>, std::vector<std::int64_t>, std::size_t>;

std::span<const std::uint64_t> as_u64(const py::buffer_info &info, const char *what) {
    if (info.itemsize != sizeof(std::uint64_t) || info.ndim != 1 ||
        (info.size > 1 && info.strides[0] != static_cast<py::ssize_t>(sizeof(std::uint64_t)))) {
        throw py::value_error(std::string(what) + " must be an array('Q')");
    }
    return {static_cast<const std::uint64_t *>(info.ptr), static_cast<std::size_t>(info.size)};
}

ExtentList make_extents(std::optional<std::span<const std::uint64_t>> offsets,
                        std::span<const std::uint64_t> addresses,
                        std::span<const std::uint64_t> nbytes,
                        const std::vector<StridesTuple> &strided) {
    if (addresses.size() != nbytes.size() || (offsets && offsets->size() != nbytes.size())) {
        throw py::value_error("offsets, addresses and nbytes must have equal lengths");
    }
    ExtentList extents;
    for (std::size_t i = 0; i < addresses.size(); ++i) {
        extents.append(offsets ? (*offsets)[i] : extents.end(), nbytes[i], addresses[i]);
    }
    for (const auto &[index, shape, strides, itemsize] : strided) {
        extents.set_layout(index, StridedLayout(shape, strides, itemsize));
    }
    return extents;
}

ExtentList make_sources(const py::buffer &addresses, const py::buffer &nbytes,
                        const std::vector<StridesTuple> &strided) {
    const py::buffer_info address_info = addresses.request();
    const py::buffer_info nbytes_info = nbytes.request();
    return make_extents(std::nullopt, as_u64(address_info, "addresses"),
                        as_u64(nbytes_info, "nbytes"), strided);
}

std::vector<Digest> unpack_digests(const py::bytes &packed) {
    const std::string_view bytes = packed;
    std::vector<Digest> digests(bytes.size() / sizeof(Digest));
    if (bytes.size() % sizeof(Digest) != 0) {
        throw py::value_error("digests must be a multiple of 16 bytes long");
    }
    std::memcpy(digests.data(), bytes.data(), bytes.size());
    return digests;
}

// Waits without the GIL. Ctrl-C cancels the job, waits until it no longer touches the caller's
// memory, and only then raises KeyboardInterrupt. False on time-out.
bool wait_interruptibly(Job &job, std::optional<double> timeout_s) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    for (;;) {
        auto interval = signal_interval;
        if (timeout_s) {
            const std::chrono::duration<double> left =
                std::chrono::duration<double>(*timeout_s) - (Clock::now() - start);
            interval = std::clamp(std::chrono::ceil<std::chrono::milliseconds>(left),
                                  std::chrono::milliseconds{0}, signal_interval);
        }
        bool finished = false;
        {
            const py::gil_scoped_release unlocked;
            finished = job.wait_for(interval);
        }
        if (finished) {
            return true;
        }
        if (PyErr_CheckSignals() != 0) {
            py::error_already_set interrupt;
            const py::gil_scoped_release unlocked;
            job.cancel();
            try {
                while (!job.wait_for(signal_interval)) {
                }
            } catch (const Error &) { // the interrupt is what the caller hears of
            }
            throw interrupt;
        }
        if (timeout_s &&
            std::chrono::duration<double>(Clock::now() - start).count() >= *timeout_s) {
            return false;
        }
    }
}

void set_os_error(int error_number, const std::string &path) {
    const py::object name =
        py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(path.c_str()));
    const py::object error = py::reinterpret_steal<py::object>(PyObject_CallFunction(
        PyExc_OSError, "isO", error_number, std::strerror(error_number), name.ptr()));
    if (error) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.ptr())), error.ptr());
    }
}

void translate(std::exception_ptr pointer) {
    try {
        if (pointer) {
            std::rethrow_exception(pointer);
        }
    } catch (const SystemError &error) {
        set_os_error(error.error_number(), error.path());
    } catch (const OutOfMemory &error) {
        PyErr_SetString(PyExc_MemoryError, error.what());
    } catch (const Cancelled &error) {
        PyErr_SetString(PyExc_InterruptedError, error.what());
    } catch (const ForkedProcess &error) {
        const py::object type = py::module_::import("sucrose.errors").attr("ForkError");
        PyErr_SetString(type.ptr(), error.what());
    } catch (const Error &error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    }
}

py::dict stats(const Engine &engine) {
    const Counters &counters = engine.counters();
    py::dict result;
    result["io_backend"] = engine.io_backend();
    result["io_uring_unused_because"] = engine.fallback_reason();
    result["workers"] = engine.worker_count();
    result["written_nbytes"] = counters.written_nbytes.load();
    result["read_nbytes"] = counters.read_nbytes.load();
    result["read_from_page_cache_nbytes"] = counters.resident_nbytes.load();
    result["direct_files"] = counters.direct_files.load();
    result["buffered_files"] = counters.buffered_files.load();
    return result;
}

void bind_tickets(py::module_ &module) {
    py::class_<Job, std::shared_ptr<Job>>(module, "Ticket")
        .def("progress",
             [](const Job &job) { return py::make_tuple(job.done_nbytes(), job.total_nbytes()); })
        .def("cancel", &Job::cancel, py::call_guard<py::gil_scoped_release>());

    py::class_<WriteJob, Job, std::shared_ptr<WriteJob>>(module, "WriteTicket")
        .def(
            "wait",
            [](WriteJob &job, std::optional<double> timeout_s) -> py::object {
                if (!wait_interruptibly(job, timeout_s)) {
                    return py::none();
                }
                const std::vector<Digest> &digests = job.digests();
                return py::make_tuple(job.nbytes(),
                                      py::bytes(reinterpret_cast<const char *>(digests.data()),
                                                digests.size() * sizeof(Digest)));
            },
            py::arg("timeout_s") = py::none());

    py::class_<ReadJob, Job, std::shared_ptr<ReadJob>>(module, "ReadTicket")
        .def(
            "wait",
            [](ReadJob &job, std::optional<double> timeout_s) -> py::object {
                if (!wait_interruptibly(job, timeout_s)) {
                    return py::none();
                }
                py::list corrupt;
                for (const CorruptChunk &chunk : job.corrupt()) {
                    corrupt.append(
                        py::make_tuple(chunk.index, to_hex(chunk.expected), to_hex(chunk.found)));
                }
                return py::make_tuple(job.nbytes(), corrupt, job.crc32s());
            },
            py::arg("timeout_s") = py::none());
}

void bind_engine(py::module_ &module) {
    py::class_<Engine>(module, "Engine")
        .def(py::init([](std::string io_backend, std::string read_mode, std::size_t slot_count,
                         std::size_t worker_count, std::size_t io_depth,
                         std::uint64_t direct_min_nbytes) {
                 return std::make_unique<Engine>(
                     EngineOptions{std::move(io_backend), std::move(read_mode), slot_count,
                                   worker_count, io_depth, direct_min_nbytes});
             }),
             py::kw_only(), py::arg("io_backend"), py::arg("read_mode"), py::arg("slot_count"),
             py::arg("worker_count"), py::arg("io_depth"), py::arg("direct_min_nbytes"))
        .def(
            "write",
            [](Engine &engine, std::string path, const py::buffer &addresses,
               const py::buffer &nbytes, const std::vector<StridesTuple> &strided, bool digest,
               bool durable) {
                ExtentList sources = make_sources(addresses, nbytes, strided);
                const py::gil_scoped_release unlocked;
                return engine.write(std::move(path), std::move(sources), digest, durable);
            },
            py::arg("path"), py::arg("addresses"), py::arg("nbytes"), py::arg("strided"),
            py::kw_only(), py::arg("digest"), py::arg("durable"))
        .def(
            "read",
            [](Engine &engine, std::string path, const py::buffer &offsets,
               const py::buffer &addresses, const py::buffer &nbytes,
               const std::vector<StridesTuple> &strided, std::uint64_t file_nbytes,
               const py::bytes &digests, bool crc32, bool whole_file, bool fresh,
               std::uint64_t max_inflight_nbytes) {
                const py::buffer_info offset_info = offsets.request();
                const py::buffer_info address_info = addresses.request();
                const py::buffer_info nbytes_info = nbytes.request();
                ExtentList destinations =
                    make_extents(as_u64(offset_info, "offsets"), as_u64(address_info, "addresses"),
                                 as_u64(nbytes_info, "nbytes"), strided);
                ReadJob::Options options;
                options.file_nbytes = file_nbytes;
                options.digests = unpack_digests(digests);
                options.crc32 = crc32;
                options.whole_file = whole_file;
                options.fresh = fresh;
                if (max_inflight_nbytes > 0) {
                    options.max_in_flight =
                        std::max<std::size_t>(1, max_inflight_nbytes / chunk_nbytes);
                }
                const py::gil_scoped_release unlocked;
                return engine.read(std::move(path), std::move(destinations), std::move(options));
            },
            py::arg("path"), py::arg("offsets"), py::arg("addresses"), py::arg("nbytes"),
            py::arg("strided"), py::kw_only(), py::arg("file_nbytes"), py::arg("digests"),
            py::arg("crc32"), py::arg("whole_file"), py::arg("fresh"),
            py::arg("max_inflight_nbytes"))
        .def(
            "crc32",
            [](Engine &engine, const py::buffer &addresses, const py::buffer &nbytes) {
                const ExtentList sources = make_sources(addresses, nbytes, {});
                const py::gil_scoped_release unlocked;
                return engine.crc32(sources);
            },
            py::arg("addresses"), py::arg("nbytes"))
        .def("sync", &Engine::sync, py::arg("paths"), py::call_guard<py::gil_scoped_release>())
        .def("stats", &stats);
}

PYBIND11_MODULE(_core, module) {
    module.doc() = "Native engine of sucrose. Private: use sucrose.engine.";
    py::register_exception_translator(&translate);
    module.attr("CHUNK_NBYTES") = chunk_nbytes;
    bind_tickets(module);
    bind_engine(module);
    module.def(
        "digest",
        [](const py::buffer &data) {
            const py::buffer_info info = data.request();
            const Digest result = digest(
                {static_cast<const std::byte *>(info.ptr),
                 static_cast<std::size_t>(info.size) * static_cast<std::size_t>(info.itemsize)});
            return py::bytes(reinterpret_cast<const char *>(result.data()), result.size());
        },
        py::arg("data"));
    module.def("build_info", [] {
        py::dict info;
        for (const auto &[name, value] : build_info()) {
            info[py::str(name)] = value;
        }
        return info;
    });
}

} // namespace

} // namespace sucrose
