#include "binding_faults.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"
#include "io/fault.h"
#include "io/journal.h"

namespace py = pybind11;

namespace sucrose {

namespace {

fault::Site site_named(std::string_view name) {
    const auto found = std::find(fault::site_names.begin(), fault::site_names.end(), name);
    if (found == fault::site_names.end()) {
        throw Error("there is no fault site '" + std::string(name) + "'");
    }
    return static_cast<fault::Site>(found - fault::site_names.begin());
}

const char *name_of(journal::Kind kind) noexcept {
    using journal::Kind;
    switch (kind) {
    case Kind::create:
        return "create";
    case Kind::write:
        return "write";
    case Kind::truncate:
        return "truncate";
    case Kind::preallocate:
        return "preallocate";
    case Kind::sync:
        return "sync";
    case Kind::failed_sync:
        return "failed_sync";
    }
    return "";
}

py::list stop_journal() {
    std::vector<journal::Entry> entries;
    {
        const py::gil_scoped_release unlocked;
        entries = journal::stop();
    }
    py::list result;
    for (const journal::Entry &entry : entries) {
        const py::object path =
            py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(entry.path.c_str()));
        result.append(py::make_tuple(name_of(entry.kind), entry.begin, entry.end, entry.device,
                                     entry.inode, path, entry.offset, py::bytes(entry.bytes)));
    }
    return result;
}

} // namespace

void bind_faults(py::module_ &module) {
    py::list names;
    for (const std::string_view name : fault::site_names) {
        names.append(py::str(name.data(), name.size()));
    }
    module.attr("FAULT_SITES") = py::tuple(names);
    module.attr("FAULT_FOREVER") = fault::forever;
    module.attr("FAULT_HALF_OF_EACH") = fault::half_of_each;
    module.def(
        "fault_add",
        [](std::string_view site, std::uint64_t nth, std::uint64_t times, int error_number) {
            return fault::add({site_named(site), nth, times, error_number});
        },
        py::arg("site"), py::kw_only(), py::arg("nth"), py::arg("times"), py::arg("errno"));
    module.def("fault_remove", &fault::remove, py::arg("rule"));
    module.def("fault_limit_transfers", &fault::limit_transfers, py::arg("nbytes"));
    module.def("fault_shuffle_completions", &fault::shuffle_completions, py::arg("seed"));
    module.def("fault_count_calls", &fault::count_calls, py::arg("on"));
    module.def("fault_counts", &fault::counts);
    module.def(
        "fault_error_at", [](std::string_view site) { return fault::error_at(site_named(site)); },
        py::arg("site"));
    module.def(
        "fault_allowed_nbytes", [](std::size_t nbytes) { return fault::allowed_nbytes(nbytes, 1); },
        py::arg("nbytes"));
    module.def("journal_tick", &journal::tick);
    module.def("journal_start", &journal::start);
    module.def("journal_stop", &stop_journal);
}

} // namespace sucrose
