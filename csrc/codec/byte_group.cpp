#include "codec/byte_group.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "error.h"

namespace sucrose {

namespace {

// Loops that compilers turn into vector code: item sizes and trip counts are plain, and nothing
// overlaps. Planes are `plane_nbytes` apart.
template <std::size_t Itemsize>
void split(const std::byte *__restrict items, std::size_t count, std::byte *__restrict planes,
           std::size_t plane_nbytes) {
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t plane = 0; plane < Itemsize; ++plane) {
            planes[plane * plane_nbytes + i] = items[i * Itemsize + plane];
        }
    }
}

// In two steps through the processor's cache, since compilers do not see how to do it in one: bytes
// of even and of odd place, and each half as items of 4 bytes.
template <>
void split<8>(const std::byte *__restrict items, std::size_t count, std::byte *__restrict planes,
              std::size_t plane_nbytes) {
    constexpr std::size_t block = 1024;
    std::byte halves[2][4 * block];
    for (std::size_t at = 0; at < count; at += block) {
        const std::size_t n = std::min(block, count - at);
        split<2>(items + 8 * at, 4 * n, halves[0], sizeof halves[0]);
        split<4>(halves[0], n, planes + at, 2 * plane_nbytes);
        split<4>(halves[1], n, planes + plane_nbytes + at, 2 * plane_nbytes);
    }
}

template <std::size_t... Plane>
void merge(std::span<const std::byte *const> groups, std::size_t count, std::byte *__restrict items,
           std::index_sequence<Plane...> /*planes*/) {
    const std::array<const std::byte *, sizeof...(Plane)> planes{groups[Plane]...};
    for (std::size_t i = 0; i < count; ++i) {
        ((items[i * sizeof...(Plane) + Plane] = planes[Plane][i]), ...);
    }
}

void copy_tail(std::span<const std::byte> source, std::size_t itemsize, std::byte *target) {
    const std::size_t tail = source.size() % itemsize;
    const std::size_t at = source.size() - tail;
    if (tail != 0) {
        std::memcpy(target + at, source.data() + at, tail);
    }
}

[[noreturn]] void refuse(std::size_t itemsize) {
    throw Error("byte groups are of items of 2, 4 or 8 bytes, not " + std::to_string(itemsize));
}

} // namespace

void split_bytes(std::span<const std::byte> source, std::size_t itemsize, std::byte *target) {
    switch (itemsize) {
    case 2:
        split<2>(source.data(), source.size() / 2, target, source.size() / 2);
        break;
    case 4:
        split<4>(source.data(), source.size() / 4, target, source.size() / 4);
        break;
    case 8:
        split<8>(source.data(), source.size() / 8, target, source.size() / 8);
        break;
    default:
        refuse(itemsize);
    }
    copy_tail(source, itemsize, target);
}

void merge_bytes(std::span<const std::byte> source, std::size_t itemsize, std::byte *target) {
    std::array<const std::byte *, max_group_itemsize> groups{};
    const std::size_t count = itemsize == 0 ? 0 : source.size() / itemsize;
    for (std::size_t plane = 0; plane < std::min(itemsize, groups.size()); ++plane) {
        groups[plane] = source.data() + plane * count;
    }
    merge_groups({groups.data(), itemsize}, count, target);
    copy_tail(source, itemsize, target);
}

void merge_groups(std::span<const std::byte *const> groups, std::size_t count, std::byte *target) {
    switch (groups.size()) {
    case 2:
        merge(groups, count, target, std::make_index_sequence<2>());
        break;
    case 4:
        merge(groups, count, target, std::make_index_sequence<4>());
        break;
    case 8:
        merge(groups, count, target, std::make_index_sequence<8>());
        break;
    default:
        refuse(groups.size());
    }
}

} // namespace sucrose
