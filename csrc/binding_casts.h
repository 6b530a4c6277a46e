// What Python says of memory, streams and staging, as the core takes it. A part of bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine.h"

namespace sucrose {

namespace py = pybind11;

// (extent, shape, strides in bytes, item size)
using StridesTuple =
    std::tuple<std::size_t, std::vector<std::int64_t>, std::vector<std::int64_t>, std::size_t>;

inline std::span<const std::uint64_t> as_u64(const py::buffer_info &info, const char *what) {
    if (info.itemsize != sizeof(std::uint64_t) || info.ndim != 1 ||
        (info.size > 1 && info.strides[0] != static_cast<py::ssize_t>(sizeof(std::uint64_t)))) {
        throw py::value_error(std::string(what) + " must be an array('Q')");
    }
    return {static_cast<const std::uint64_t *>(info.ptr), static_cast<std::size_t>(info.size)};
}

// (device, handle of the caller's current stream there)
using StreamTuple = std::tuple<std::int32_t, std::uint64_t>;

// What Python says of pieces of memory.
struct Memory {
    const py::buffer &addresses;
    const py::buffer &nbytes;
    const py::buffer &devices; // one signed byte for each, or none at all
    const std::vector<StridesTuple> &strided;
};

inline ExtentList make_extents(std::optional<std::span<const std::uint64_t>> offsets,
                               const Memory &memory) {
    const py::buffer_info address_info = memory.addresses.request();
    const py::buffer_info nbytes_info = memory.nbytes.request();
    const py::buffer_info device_info = memory.devices.request();
    const auto addresses = as_u64(address_info, "addresses");
    const auto nbytes = as_u64(nbytes_info, "nbytes");
    if (addresses.size() != nbytes.size() || (offsets && offsets->size() != nbytes.size())) {
        throw py::value_error("offsets, addresses and nbytes must have equal lengths");
    }
    ExtentList extents;
    for (std::size_t i = 0; i < addresses.size(); ++i) {
        extents.append(offsets ? (*offsets)[i] : extents.end(), nbytes[i], addresses[i]);
    }
    for (const auto &[index, shape, strides, itemsize] : memory.strided) {
        extents.set_layout(index, StridedLayout(shape, strides, itemsize));
    }
    if (device_info.size != 0) {
        if (device_info.itemsize != 1 || device_info.size != nbytes_info.size) {
            throw py::value_error("devices must be an array('b'), empty or as long as nbytes");
        }
        const auto *devices = static_cast<const std::int8_t *>(device_info.ptr);
        for (std::size_t i = 0; i < nbytes.size(); ++i) {
            if (devices[i] >= 0) {
                extents.set_device(i, devices[i]);
            }
        }
    }
    return extents;
}

inline std::vector<CallerStream> make_streams(const std::vector<StreamTuple> &tuples) {
    std::vector<CallerStream> streams;
    for (const auto &[device, handle] : tuples) {
        streams.push_back({device, reinterpret_cast<cuda::CUstream>(handle)});
    }
    return streams;
}

inline Staging parse_staging(const std::string &name) {
    for (const auto &[known, staging] :
         {std::pair{"none", Staging::none}, std::pair{"auto", Staging::automatic},
          std::pair{"host", Staging::host}, std::pair{"device", Staging::device}}) {
        if (name == known) {
            return staging;
        }
    }
    throw py::value_error("staging '" + name + "' is none of none, auto, host, device");
}

inline const char *name_of(Staged staged) {
    switch (staged) {
    case Staged::not_asked:
        return "none";
    case Staged::on_device:
        return "device";
    case Staged::on_host:
        return "host";
    case Staged::blocking:
        return "blocking";
    }
    return "";
}

inline std::vector<std::uint8_t> unpack_itemsizes(const py::bytes &packed) {
    const std::string_view bytes = packed;
    return {bytes.begin(), bytes.end()};
}

// Empty where no chunk has a filter.
inline py::bytes pack_itemsizes(const std::vector<std::uint8_t> &itemsizes) {
    const bool none = std::all_of(itemsizes.begin(), itemsizes.end(),
                                  [](std::uint8_t itemsize) { return itemsize == 0; });
    return {reinterpret_cast<const char *>(itemsizes.data()), none ? 0 : itemsizes.size()};
}

// (level, item sizes of the chunks' filters, adaptive)
using EncodingTuple = std::tuple<int, py::bytes, bool>;

inline std::optional<Encoding> make_encoding(const std::optional<EncodingTuple> &tuple) {
    if (!tuple) {
        return std::nullopt;
    }
    const auto &[level, itemsizes, adaptive] = *tuple;
    return Encoding{level, unpack_itemsizes(itemsizes), adaptive};
}

// (array('Q') of the chunks' sizes, item sizes of their filters)
using StoredTuple = std::tuple<py::buffer, py::bytes>;

inline std::optional<ChunkTable> make_chunk_table(const std::optional<StoredTuple> &tuple,
                                                  std::uint64_t file_nbytes) {
    if (!tuple) {
        return std::nullopt;
    }
    const auto &[sizes, itemsizes] = *tuple;
    const py::buffer_info info = sizes.request();
    const auto nbytes = as_u64(info, "sizes");
    return ChunkTable({nbytes.begin(), nbytes.end()}, unpack_itemsizes(itemsizes), file_nbytes);
}

// How many chunks may be under way; 0 where there is no bound.
inline std::size_t chunks_in(std::uint64_t nbytes) {
    return nbytes == 0 ? 0 : std::max<std::size_t>(1, nbytes / chunk_nbytes);
}

inline std::vector<Digest> unpack_digests(const py::bytes &packed) {
    const std::string_view bytes = packed;
    std::vector<Digest> digests(bytes.size() / sizeof(Digest));
    if (bytes.size() % sizeof(Digest) != 0) {
        throw py::value_error("digests must be a multiple of 16 bytes long");
    }
    if (!bytes.empty()) { // memcpy takes no null pointer, not even for no bytes
        std::memcpy(digests.data(), bytes.data(), bytes.size());
    }
    return digests;
}

} // namespace sucrose
