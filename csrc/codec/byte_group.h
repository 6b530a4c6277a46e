// Byte groups: of the items of a sequence, first all first bytes, then all second bytes and so on.
// Sign and exponent of floating-point numbers come to lie side by side and compress.
//
// Bytes behind the last whole item follow the last group. The same bytes as from the device's
// kernels.
#pragma once

#include <cstddef>
#include <span>

namespace sucrose {

inline constexpr std::size_t max_group_itemsize = 8;

// Writes source.size() bytes to `target`, which must not overlap. Throws Error for an item size
// other than 2, 4 and 8.
void split_bytes(std::span<const std::byte> source, std::size_t itemsize, std::byte *target);

// The reverse.
void merge_bytes(std::span<const std::byte> source, std::size_t itemsize, std::byte *target);

// The reverse for `count` whole items whose groups lie apart: item i of `target` is made of
// groups[0][i], groups[1][i] and so on, one group for each byte of an item.
void merge_groups(std::span<const std::byte *const> groups, std::size_t count, std::byte *target);

} // namespace sucrose
