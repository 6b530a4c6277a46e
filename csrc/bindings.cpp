// What Python sees of the core: classes, exception translation, and the GIL. With binding_casts.h
// the only code that knows Python. Everything that may block releases the GIL and reacts to Ctrl-C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <optional>
#include <system_error>

#include "binding_casts.h"
#include "binding_faults.h"
#include "binding_relay.h"
#include "binding_wait.h"
#include "build_info.h"
#include "engine.h"
#include "error.h"
#include "lifecycle.h"

namespace py = pybind11;

namespace sucrose {

namespace {

void set_os_error(int error_number, const std::string &path) {
    const py::object name =
        py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(path.c_str()));
    const py::object error = py::reinterpret_steal<py::object>(PyObject_CallFunction(
        PyExc_OSError, "isO", error_number, std::strerror(error_number), name.ptr()));
    if (error) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.ptr())), error.ptr());
    }
}

void set_error_of_ours(const char *name, const Error &error) {
    const py::object type = py::module_::import("sucrose.errors").attr(name);
    PyErr_SetString(type.ptr(), error.what());
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
        set_error_of_ours("ForkError", error);
    } catch (const CudaFailure &error) {
        set_error_of_ours("CudaError", error);
    } catch (const Error &error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::system_error &error) { // there can be no more threads
        errno = error.code().value();
        PyErr_SetFromErrno(PyExc_OSError);
    }
}

// time.perf_counter() and the clock of traces are both CLOCK_MONOTONIC.
TraceClock::time_point to_time_point(double seconds) {
    return TraceClock::time_point(
        std::chrono::duration_cast<TraceClock::duration>(std::chrono::duration<double>(seconds)));
}

py::dict encoding_stats(const Codecs &codecs) {
    py::dict result;
    result["compressed_nbytes"] = codecs.counters.compressed_nbytes.load();
    result["compressed_to_nbytes"] = codecs.counters.compressed_to_nbytes.load();
    result["left_nbytes"] = codecs.counters.left_nbytes.load();
    result["decoded_nbytes"] = codecs.counters.decoded_nbytes.load();
    result["trial"] = py::none();
    if (const auto figures = codecs.history.latest()) {
        py::dict trial;
        trial["pays"] = figures->pays();
        trial["ratio"] = figures->ratio;
        trial["compress_nbytes_per_s"] = figures->compress_rate;
        trial["write_nbytes_per_s"] = figures->write_rate;
        trial["workers"] = figures->worker_count;
        result["trial"] = trial;
    }
    return result;
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
    result["from_device_nbytes"] = counters.from_device_nbytes.load();
    result["to_device_nbytes"] = counters.to_device_nbytes.load();
    py::dict fallbacks;
    for (const auto &[what, why] : engine.cuda_fallbacks()) {
        fallbacks[py::str(what)] = why;
    }
    result["cuda_fallbacks"] = fallbacks;
    result["encoding"] = encoding_stats(engine.codecs());
    result["direct_files"] = counters.direct_files.load();
    result["buffered_files"] = counters.buffered_files.load();
    return result;
}

void bind_tickets(py::module_ &module) {
    py::class_<Job, std::shared_ptr<Job>> ticket(module, "Ticket");
    ticket
        .def("progress",
             [](const Job &job) { return py::make_tuple(job.done_nbytes(), job.total_nbytes()); })
        .def("cancel", &Job::cancel, py::call_guard<py::gil_scoped_release>());
    bind_relay(module, ticket);

    py::class_<WriteJob, Job, std::shared_ptr<WriteJob>>(module, "WriteTicket")
        .def(
            "wait",
            [](WriteJob &job, std::optional<double> timeout_s) -> py::object {
                if (!wait_for_end(job, timeout_s)) {
                    return py::none();
                }
                const std::vector<Digest> &digests = job.digests();
                return py::make_tuple(job.nbytes(),
                                      py::bytes(reinterpret_cast<const char *>(digests.data()),
                                                digests.size() * sizeof(Digest)));
            },
            py::arg("timeout_s") = py::none())
        .def(
            "wait_safe",
            [](WriteJob &job, std::optional<double> timeout_s) {
                return wait_interruptibly(
                    job, timeout_s, [&](std::chrono::milliseconds t) { return job.wait_safe(t); });
            },
            py::arg("timeout_s") = py::none())
        .def(
            "wait_staged",
            [](WriteJob &job, std::optional<double> timeout_s) {
                return wait_interruptibly(job, timeout_s, [&](std::chrono::milliseconds t) {
                    return job.wait_staged(t);
                });
            },
            py::arg("timeout_s") = py::none())
        .def("staging", [](const WriteJob &job) { return name_of(job.staged()); })
        .def("stored", [](const WriteJob &job) -> py::object {
            const EncodedWrite *encoded = job.encoded();
            if (encoded == nullptr) {
                return py::none();
            }
            const std::vector<std::uint64_t> &sizes = encoded->packer().sizes();
            return py::make_tuple(py::bytes(reinterpret_cast<const char *>(sizes.data()),
                                            sizes.size() * sizeof(std::uint64_t)),
                                  pack_itemsizes(encoded->itemsizes()));
        });

    py::class_<ReadJob, Job, std::shared_ptr<ReadJob>>(module, "ReadTicket")
        .def(
            "wait",
            [](ReadJob &job, std::optional<double> timeout_s) -> py::object {
                if (!wait_for_end(job, timeout_s)) {
                    return py::none();
                }
                py::list corrupt;
                for (const CorruptChunk &chunk : job.corrupt()) {
                    corrupt.append(py::make_tuple(
                        chunk.index, chunk.expected ? to_hex(*chunk.expected) : std::string(),
                        chunk.undecodable.empty() ? to_hex(chunk.found)
                                                  : "not decodable: " + chunk.undecodable));
                }
                return py::make_tuple(job.nbytes(), corrupt, job.crc32s());
            },
            py::arg("timeout_s") = py::none());
}

void bind_engine(py::module_ &module) {
    py::class_<Engine>(module, "Engine")
        .def(py::init([](std::string io_backend, std::string read_mode, std::size_t slot_count,
                         std::size_t worker_count, std::size_t io_depth,
                         std::uint64_t direct_min_nbytes, std::string cuda_driver,
                         std::string trace) {
                 return std::make_unique<Engine>(EngineOptions{
                     std::move(io_backend), std::move(read_mode), slot_count, worker_count,
                     io_depth, direct_min_nbytes, std::move(cuda_driver), std::move(trace)});
             }),
             py::kw_only(), py::arg("io_backend"), py::arg("read_mode"), py::arg("slot_count"),
             py::arg("worker_count"), py::arg("io_depth"), py::arg("direct_min_nbytes"),
             py::arg("cuda_driver"), py::arg("trace"))
        .def(
            "write",
            [](Engine &engine, std::string path, const py::buffer &addresses,
               const py::buffer &nbytes, const py::buffer &devices,
               const std::vector<StridesTuple> &strided, const std::vector<StreamTuple> &streams,
               bool digest, bool durable, const std::string &staging, std::uint64_t staging_nbytes,
               std::string_view digest_kind, const std::optional<EncodingTuple> &encoding,
               bool relayed, std::uint64_t max_inflight_nbytes) {
                ExtentList sources =
                    make_extents(std::nullopt, {addresses, nbytes, devices, strided});
                const std::vector<CallerStream> callers = make_streams(streams);
                const WriteJob::Options options{.digest = digest,
                                                .digest_kind = parse_digest_kind(digest_kind),
                                                .durable = durable,
                                                .staging = parse_staging(staging),
                                                .staging_nbytes = staging_nbytes,
                                                .encoding = make_encoding(encoding),
                                                .relayed = relayed,
                                                .max_in_flight = chunks_in(max_inflight_nbytes)};
                const py::gil_scoped_release unlocked;
                return engine.write(std::move(path), std::move(sources), callers, options);
            },
            py::arg("path"), py::arg("addresses"), py::arg("nbytes"), py::arg("devices"),
            py::arg("strided"), py::arg("streams"), py::kw_only(), py::arg("digest"),
            py::arg("durable"), py::arg("staging"), py::arg("staging_nbytes"),
            py::arg("digest_kind") = "xxh3-128", py::arg("encoding") = py::none(),
            py::arg("relayed") = false, py::arg("max_inflight_nbytes") = 0,
            py::keep_alive<0, 1>()) // who has memory of an engine's keeps the engine
        .def(
            "read",
            [](Engine &engine, std::string path, const py::buffer &offsets,
               const py::buffer &addresses, const py::buffer &nbytes, const py::buffer &devices,
               const std::vector<StridesTuple> &strided, const std::vector<StreamTuple> &streams,
               std::uint64_t file_nbytes, const py::bytes &digests, bool crc32, bool whole_file,
               bool fresh, std::uint64_t max_inflight_nbytes, std::string_view digest_kind,
               const std::optional<StoredTuple> &stored, bool relayed) {
                const py::buffer_info offset_info = offsets.request();
                ExtentList destinations = make_extents(as_u64(offset_info, "offsets"),
                                                       {addresses, nbytes, devices, strided});
                const std::vector<CallerStream> callers = make_streams(streams);
                ReadJob::Options options;
                options.file_nbytes = file_nbytes;
                options.stored = make_chunk_table(stored, file_nbytes);
                options.digests = unpack_digests(digests);
                options.digest_kind = parse_digest_kind(digest_kind);
                options.crc32 = crc32;
                options.whole_file = whole_file;
                options.fresh = fresh;
                options.relayed = relayed;
                options.max_in_flight = chunks_in(max_inflight_nbytes);
                const py::gil_scoped_release unlocked;
                return engine.read(std::move(path), std::move(destinations), callers,
                                   std::move(options));
            },
            py::arg("path"), py::arg("offsets"), py::arg("addresses"), py::arg("nbytes"),
            py::arg("devices"), py::arg("strided"), py::arg("streams"), py::kw_only(),
            py::arg("file_nbytes"), py::arg("digests"), py::arg("crc32"), py::arg("whole_file"),
            py::arg("fresh"), py::arg("max_inflight_nbytes"), py::arg("digest_kind") = "xxh3-128",
            py::arg("stored") = py::none(), py::arg("relayed") = false, py::keep_alive<0, 1>())
        .def(
            "crc32",
            [](Engine &engine, const py::buffer &addresses, const py::buffer &nbytes) {
                const py::bytes on_host("");
                const ExtentList sources =
                    make_extents(std::nullopt, {addresses, nbytes, on_host, {}});
                const py::gil_scoped_release unlocked;
                return engine.crc32(sources);
            },
            py::arg("addresses"), py::arg("nbytes"))
        .def(
            "fingerprint",
            [](Engine &engine, const py::buffer &addresses, const py::buffer &nbytes,
               const py::buffer &devices, const std::vector<StridesTuple> &strided,
               const std::vector<StreamTuple> &streams, const py::buffer &piece_nbytes) {
                const ExtentList sources =
                    make_extents(std::nullopt, {addresses, nbytes, devices, strided});
                const py::buffer_info piece_info = piece_nbytes.request();
                const auto pieces = as_u64(piece_info, "piece_nbytes");
                const std::vector<CallerStream> callers = make_streams(streams);
                std::vector<Fingerprint> found;
                {
                    const py::gil_scoped_release unlocked;
                    found = engine.fingerprint(sources, pieces, callers, [] {
                        const py::gil_scoped_acquire locked;
                        if (PyErr_CheckSignals() != 0) {
                            throw py::error_already_set();
                        }
                    });
                }
                return py::bytes(reinterpret_cast<const char *>(found.data()),
                                 found.size() * sizeof(Fingerprint));
            },
            py::arg("addresses"), py::arg("nbytes"), py::arg("devices"), py::arg("strided"),
            py::arg("streams"), py::kw_only(), py::arg("piece_nbytes"))
        .def("sync", &Engine::sync, py::arg("paths"), py::call_guard<py::gil_scoped_release>())
        .def("kept_staging_nbytes", &Engine::kept_staging_nbytes)
        .def("reaches_device", &Engine::reaches_device, py::arg("ordinal"),
             py::call_guard<py::gil_scoped_release>())
        .def(
            "trace",
            [](const Engine &engine, std::string_view name, double begin_s, double end_s) {
                if (Tracer *tracer = engine.tracer()) {
                    tracer->span({TraceTrack::Kind::program}, name, to_time_point(begin_s),
                                 to_time_point(end_s));
                    tracer->flush();
                }
            },
            py::arg("name"), py::arg("begin_s"), py::arg("end_s"))
        .def("stats", &stats);
}

PYBIND11_MODULE(_core, module) {
    module.doc() = "Native engine of sucrose. Private: use sucrose.engine.";
    py::register_exception_translator(&translate);
    module.attr("CHUNK_NBYTES") = chunk_nbytes;
    watch_exit();
    module.def("fail_exit", &fail_exit, py::arg("status"));
    bind_tickets(module);
    bind_engine(module);
    bind_faults(module);
    module.def(
        "digest",
        [](const py::buffer &data, std::string_view kind) {
            const py::buffer_info info = data.request();
            const Digest result = digest(
                {static_cast<const std::byte *>(info.ptr),
                 static_cast<std::size_t>(info.size) * static_cast<std::size_t>(info.itemsize)},
                parse_digest_kind(kind));
            return py::bytes(reinterpret_cast<const char *>(result.data()), result.size());
        },
        py::arg("data"), py::arg("digest_kind") = "xxh3-128");
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
