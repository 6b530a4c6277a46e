// What one thread of each device kernel does. One source for kernels.cu, which gives it the
// thread's place and device memory, and for the host, where a loop over all threads does the same.
//
// C++17, and nothing but freestanding headers: every nvcc that the build accepts must take it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SUCROSE_DEVICE_HOST __host__ __device__
#else
#define SUCROSE_DEVICE_HOST
#endif

namespace sucrose {

// --- descriptors, read by the device
// --------------------------------------------------------------

// Of a piece of a contiguous tensor.
inline constexpr std::uint32_t no_layout = 0xFFFFFFFF;
// A piece is the work of one block of threads; the caller cuts to at most this.
inline constexpr std::uint32_t kernel_piece_nbytes = 16 << 10;
inline constexpr std::uint32_t kernel_threads = 256; // in a block, of every kernel

// Bytes [begin, begin + nbytes) of a tensor in row-major order, and their place in the block.
struct KernelPiece {
    std::uint64_t tensor; // device address of element (0, ..., 0)
    std::uint64_t begin;
    std::uint64_t block_offset;
    std::uint32_t nbytes;
    std::uint32_t layout; // index, or no_layout
};

// An array of runs of `run_nbytes` contiguous bytes.
struct KernelLayout {
    static constexpr std::uint32_t max_rank = 8;

    std::uint32_t rank;
    std::uint32_t run_nbytes;
    std::uint64_t size[max_rank];  // in runs, slowest dimension first
    std::int64_t stride[max_rank]; // in bytes
};

namespace kernel {

// --- memory
// ---------------------------------------------------------------------------------------

struct alignas(16) Word16 {
    std::uint64_t word[2];
};

SUCROSE_DEVICE_HOST inline std::uint64_t address_of(const std::byte *memory) {
    return reinterpret_cast<std::uint64_t>(memory);
}

template <typename Word> SUCROSE_DEVICE_HOST inline Word load(const std::byte *aligned) {
    Word word;
    std::memcpy(&word, __builtin_assume_aligned(aligned, alignof(Word)), sizeof(Word));
    return word;
}

template <typename Word>
SUCROSE_DEVICE_HOST inline void store(std::byte *aligned, const Word &word) {
    std::memcpy(__builtin_assume_aligned(aligned, alignof(Word)), &word, sizeof(Word));
}

// The largest power of two, at most 16, that divides all of what was or-ed together to `bits`.
SUCROSE_DEVICE_HOST inline std::uint32_t common_unit(std::uint64_t bits) {
    const auto low = static_cast<std::uint32_t>(bits & 15U) | 16U;
    return low & (~low + 1U);
}

// --- gather and scatter
// ---------------------------------------------------------------------------

template <typename Word>
SUCROSE_DEVICE_HOST inline void copy_words(std::byte *__restrict target,
                                           const std::byte *__restrict source, std::uint32_t nbytes,
                                           std::uint32_t thread, std::uint32_t threads) {
    constexpr auto width = static_cast<std::uint32_t>(sizeof(Word));
    for (std::uint32_t at = thread * width; at < nbytes; at += threads * width) {
        store(target + at, load<Word>(source + at));
    }
}

// Copies in the widest words that can be aligned on both sides at once, and the ends bytewise.
SUCROSE_DEVICE_HOST inline void copy_contiguous(std::byte *__restrict target,
                                                const std::byte *__restrict source,
                                                std::uint32_t nbytes, std::uint32_t thread,
                                                std::uint32_t threads) {
    const std::uint32_t unit = common_unit(address_of(target) ^ address_of(source));
    auto head = static_cast<std::uint32_t>(~address_of(target) + 1U) & (unit - 1);
    head = head < nbytes ? head : nbytes;
    const std::uint32_t words_nbytes = (nbytes - head) & ~(unit - 1);
    const std::uint32_t tail = head + words_nbytes;
    copy_words<std::uint8_t>(target, source, head, thread, threads);
    target += head;
    source += head;
    switch (unit) {
    case 16:
        copy_words<Word16>(target, source, words_nbytes, thread, threads);
        break;
    case 8:
        copy_words<std::uint64_t>(target, source, words_nbytes, thread, threads);
        break;
    case 4:
        copy_words<std::uint32_t>(target, source, words_nbytes, thread, threads);
        break;
    case 2:
        copy_words<std::uint16_t>(target, source, words_nbytes, thread, threads);
        break;
    default:
        copy_words<std::uint8_t>(target, source, words_nbytes, thread, threads);
    }
    copy_words<std::uint8_t>(target + words_nbytes, source + words_nbytes, nbytes - tail, thread,
                             threads);
}

struct Division {
    std::uint64_t quotient;
    std::uint64_t remainder;
};

// Devices divide 32 bits several times faster than 64.
SUCROSE_DEVICE_HOST inline Division divide(std::uint64_t dividend, std::uint64_t divisor) {
    if (((dividend | divisor) >> 32U) == 0) {
        const auto a = static_cast<std::uint32_t>(dividend);
        const auto b = static_cast<std::uint32_t>(divisor);
        return {a / b, a % b};
    }
    return {dividend / divisor, dividend % divisor};
}

// Of byte `position` of the tensor in row-major order, from the tensor's address.
SUCROSE_DEVICE_HOST inline std::int64_t offset_in_tensor(const KernelLayout &layout,
                                                         std::uint64_t position) {
    const Division run = divide(position, layout.run_nbytes);
    auto offset = static_cast<std::int64_t>(run.remainder);
    std::uint64_t index = run.quotient;
    for (std::uint32_t i = layout.rank; i > 0 && index != 0; --i) {
        const Division place = divide(index, layout.size[i - 1]);
        offset += static_cast<std::int64_t>(place.remainder) * layout.stride[i - 1];
        index = place.quotient;
    }
    return offset;
}

struct Gather {
    template <typename Word>
    SUCROSE_DEVICE_HOST static void move(std::byte *block, std::byte *tensor) {
        store(block, load<Word>(tensor));
    }
};

struct Scatter {
    template <typename Word>
    SUCROSE_DEVICE_HOST static void move(std::byte *block, std::byte *tensor) {
        store(tensor, load<Word>(block));
    }
};

template <typename Direction, typename Word>
SUCROSE_DEVICE_HOST inline void copy_units(std::byte *block, std::byte *tensor,
                                           const KernelPiece &piece, const KernelLayout &layout,
                                           std::uint32_t thread, std::uint32_t threads) {
    constexpr auto width = static_cast<std::uint32_t>(sizeof(Word));
    const std::uint64_t begin = piece.begin;
    const std::uint32_t nbytes = piece.nbytes;
    for (std::uint32_t at = thread * width; at < nbytes; at += threads * width) {
        Direction::template move<Word>(block + at, tensor + offset_in_tensor(layout, begin + at));
    }
}

// `block` is where the piece begins in the block, `tensor` where element (0, ..., 0) lies.
template <typename Direction>
SUCROSE_DEVICE_HOST inline void copy_strided(std::byte *block, std::byte *tensor,
                                             const KernelPiece &piece, const KernelLayout &layout,
                                             std::uint32_t thread, std::uint32_t threads) {
    std::uint64_t bits =
        address_of(block) | address_of(tensor) | piece.begin | piece.nbytes | layout.run_nbytes;
    for (std::uint32_t i = 0; i < layout.rank; ++i) {
        bits |= static_cast<std::uint64_t>(layout.stride[i]);
    }
    switch (common_unit(bits)) {
    case 16:
        return copy_units<Direction, Word16>(block, tensor, piece, layout, thread, threads);
    case 8:
        return copy_units<Direction, std::uint64_t>(block, tensor, piece, layout, thread, threads);
    case 4:
        return copy_units<Direction, std::uint32_t>(block, tensor, piece, layout, thread, threads);
    case 2:
        return copy_units<Direction, std::uint16_t>(block, tensor, piece, layout, thread, threads);
    default:
        return copy_units<Direction, std::uint8_t>(block, tensor, piece, layout, thread, threads);
    }
}

// --- byte groups: see byte_group.h
// ----------------------------------------------------------------

inline constexpr std::uint32_t group_size = 4;

// What a thread moves at once: a word of each plane.
template <typename Item> struct alignas(sizeof(Item) < 4 ? group_size * sizeof(Item) : 16) Group {
    Item item[group_size];
};

// Whether groups and words of planes are aligned and nothing is left over.
template <typename Item>
SUCROSE_DEVICE_HOST inline bool in_whole_groups(const std::byte *items, const std::byte *planes,
                                                std::uint64_t count) {
    return address_of(items) % alignof(Group<Item>) == 0 &&
           (address_of(planes) | count) % group_size == 0;
}

// `index` of `stride` threads in all blocks together; `count` items.
template <typename Item>
SUCROSE_DEVICE_HOST inline void split_items(std::byte *planes, const std::byte *items,
                                            std::uint64_t count, std::uint64_t index,
                                            std::uint64_t stride) {
    constexpr std::uint32_t width = sizeof(Item);
    if (!in_whole_groups<Item>(items, planes, count)) {
        for (std::uint64_t at = index; at < count; at += stride) {
            for (std::uint32_t plane = 0; plane < width; ++plane) {
                planes[plane * count + at] = items[at * width + plane];
            }
        }
        return;
    }
    for (std::uint64_t at = index * group_size; at < count; at += stride * group_size) {
        const auto group = load<Group<Item>>(items + at * width);
        for (std::uint32_t plane = 0; plane < width; ++plane) {
            std::uint32_t word = 0;
            for (std::uint32_t i = 0; i < group_size; ++i) {
                word |= static_cast<std::uint32_t>(group.item[i] >> (8 * plane) & 0xFFU) << (8 * i);
            }
            store(planes + plane * count + at, word);
        }
    }
}

template <typename Item>
SUCROSE_DEVICE_HOST inline void merge_items(std::byte *items, const std::byte *planes,
                                            std::uint64_t count, std::uint64_t index,
                                            std::uint64_t stride) {
    constexpr std::uint32_t width = sizeof(Item);
    if (!in_whole_groups<Item>(items, planes, count)) {
        for (std::uint64_t at = index; at < count; at += stride) {
            for (std::uint32_t plane = 0; plane < width; ++plane) {
                items[at * width + plane] = planes[plane * count + at];
            }
        }
        return;
    }
    for (std::uint64_t at = index * group_size; at < count; at += stride * group_size) {
        Group<Item> group{};
        for (std::uint32_t plane = 0; plane < width; ++plane) {
            const auto word = load<std::uint32_t>(planes + plane * count + at);
            for (std::uint32_t i = 0; i < group_size; ++i) {
                const auto byte = static_cast<Item>(word >> (8 * i) & 0xFFU);
                group.item[i] = static_cast<Item>(group.item[i] | byte << (8 * plane));
            }
        }
        store(items + at * width, group);
    }
}

// What is left behind the last whole item: fewer bytes than there are threads.
SUCROSE_DEVICE_HOST inline void copy_tail(std::byte *target, const std::byte *source,
                                          std::uint64_t nbytes, std::uint32_t itemsize,
                                          std::uint64_t index) {
    const std::uint64_t at = nbytes - nbytes % itemsize + index;
    if (at < nbytes) {
        target[at] = source[at];
    }
}

SUCROSE_DEVICE_HOST inline void split_bytes(std::byte *target, const std::byte *source,
                                            std::uint64_t nbytes, std::uint32_t itemsize,
                                            std::uint64_t index, std::uint64_t stride) {
    copy_tail(target, source, nbytes, itemsize, index);
    switch (itemsize) {
    case 2:
        return split_items<std::uint16_t>(target, source, nbytes / 2, index, stride);
    case 4:
        return split_items<std::uint32_t>(target, source, nbytes / 4, index, stride);
    default:
        return split_items<std::uint64_t>(target, source, nbytes / 8, index, stride);
    }
}

SUCROSE_DEVICE_HOST inline void merge_bytes(std::byte *target, const std::byte *source,
                                            std::uint64_t nbytes, std::uint32_t itemsize,
                                            std::uint64_t index, std::uint64_t stride) {
    copy_tail(target, source, nbytes, itemsize, index);
    switch (itemsize) {
    case 2:
        return merge_items<std::uint16_t>(target, source, nbytes / 2, index, stride);
    case 4:
        return merge_items<std::uint32_t>(target, source, nbytes / 4, index, stride);
    default:
        return merge_items<std::uint64_t>(target, source, nbytes / 8, index, stride);
    }
}

// --- fingerprint: see fingerprint.h
// ---------------------------------------------------------------

inline constexpr std::uint64_t fingerprint_chunk_nbytes = std::uint64_t{4} << 20;
// The part of a chunk that one block of threads sums up.
inline constexpr std::uint64_t fingerprint_share_nbytes = std::uint64_t{128} << 10;

struct FingerprintSums {
    std::uint64_t lane[2];
};

// A one-to-one map of 64 bits in which every bit depends on every other: the finalizer of
// MurmurHash3. Its shift is not 32, with which the sign bits of two floats would cancel each other.
SUCROSE_DEVICE_HOST inline std::uint64_t mix(std::uint64_t word, std::uint64_t factor,
                                             std::uint64_t second_factor) {
    word ^= word >> 33U;
    word *= factor;
    word ^= word >> 33U;
    word *= second_factor;
    return word ^ word >> 33U;
}

// Adds the word at `position` (in words from the chunk's beginning). The factors of the mixers are
// those of MurmurHash3 and of SplitMix64, those of the keys are the fractions of the golden and the
// silver ratio.
SUCROSE_DEVICE_HOST inline void add_word(FingerprintSums &sums, std::uint64_t word,
                                         std::uint64_t position) {
    sums.lane[0] +=
        mix(word ^ (position + 1) * 0x9E3779B97F4A7C15U, 0xFF51AFD7ED558CCDU, 0xC4CEB9FE1A85EC53U);
    sums.lane[1] +=
        mix(word ^ (position + 1) * 0x6A09E667F3BCC909U, 0xBF58476D1CE4E5B9U, 0x94D049BB133111EBU);
}

// Of the chunk that begins at `begin` of `nbytes` in all.
SUCROSE_DEVICE_HOST inline std::uint64_t chunk_length(std::uint64_t nbytes, std::uint64_t begin) {
    const std::uint64_t left = nbytes - begin;
    return left < fingerprint_chunk_nbytes ? left : fingerprint_chunk_nbytes;
}

SUCROSE_DEVICE_HOST inline std::uint64_t chunk_of_share(std::uint64_t share) {
    return share / (fingerprint_chunk_nbytes / fingerprint_share_nbytes);
}

// What the sums of a chunk of `nbytes` begin with: its length, as a word behind the last possible.
SUCROSE_DEVICE_HOST inline FingerprintSums fingerprint_begin(std::uint64_t nbytes) {
    FingerprintSums sums{};
    add_word(sums, nbytes, fingerprint_chunk_nbytes / 8);
    return sums;
}

// Up to 8 bytes, behind the last of which there are zeros.
SUCROSE_DEVICE_HOST inline std::uint64_t load_padded(const std::byte *bytes, std::uint64_t nbytes) {
    std::uint64_t word = 0;
    for (std::uint32_t i = 0; i < 8 && i < nbytes; ++i) {
        word |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
    }
    return word;
}

// One thread's part of the sums of share `share` of all of `source`.
SUCROSE_DEVICE_HOST inline FingerprintSums
fingerprint_share(const std::byte *source, std::uint64_t nbytes, std::uint64_t share,
                  std::uint32_t thread, std::uint32_t threads) {
    const bool aligned = address_of(source) % 16 == 0;
    const std::uint64_t begin = share * fingerprint_share_nbytes;
    const std::uint64_t left = nbytes - begin;
    const std::uint64_t end =
        begin + (left < fingerprint_share_nbytes ? left : fingerprint_share_nbytes);
    FingerprintSums sums{};
    for (std::uint64_t at = begin + std::uint64_t{16} * thread; at < end; at += 16 * threads) {
        const std::uint64_t position = at % fingerprint_chunk_nbytes / 8;
        if (aligned && end - at >= 16) {
            const auto words = load<Word16>(source + at);
            add_word(sums, words.word[0], position);
            add_word(sums, words.word[1], position + 1);
            continue;
        }
        for (std::uint64_t half = 0; half < 16 && at + half < end; half += 8) {
            add_word(sums, load_padded(source + at + half, end - at - half), position + half / 8);
        }
    }
    return sums;
}

} // namespace kernel

} // namespace sucrose
