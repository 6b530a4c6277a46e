// Fingerprints: 128 bits for each chunk of 4 MiB of a sequence of bytes, cheap enough for a device
// to compute at the speed of its memory. They tell whether a tensor has changed since it was last
// seen.
//
// 1. A chunk is a sequence of 64-bit little-endian words, the last one filled up with zeros.
// 2. Each word is combined with a key made of its position in the chunk and mixed by a one-to-one
// map.
// 3. The sum of these modulo 2^64 is one lane. The other has another key and another map.
// 4. The length of the chunk is added as a word at a position behind the last possible one.
// 5. The fingerprint is lane 0 and then lane 1, both little-endian.
//
// A sum does not depend on the order in which it is made, so threads need no agreement. Since the
// maps are one-to-one, a change within one word is always seen. Of other changes the terms behave
// like random numbers, so that two versions of a chunk have the same fingerprint with a probability
// near 2^-128: after 2^40 comparisons, a million chunks a million times, 2^-88.
//
// This is no cryptographic hash, nor a digest for the disk: whoever wants two chunks with the same
// fingerprint can make them.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace sucrose {

using Fingerprint = std::array<std::byte, 16>;

// Of one chunk of at most chunk_nbytes.
Fingerprint fingerprint_chunk(std::span<const std::byte> chunk) noexcept;

// One for each chunk_nbytes of `bytes`; none for no bytes.
std::vector<Fingerprint> fingerprint(std::span<const std::byte> bytes);

} // namespace sucrose
