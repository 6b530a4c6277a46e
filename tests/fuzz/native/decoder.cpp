// Frames from a disk, and the table that says where they lie.
//
// Input: item size of the filter, length of the raw chunk (2 bytes; the highest bit stands for a
// full chunk), three lengths of a table (3 bytes each), and the frames.
#include "codec/chunk_table.h"
#include "codec/codec.h"
#include "error.h"
#include "fuzzed_bytes.h"

#include <cstdlib>
#include <memory>
#include <vector>

using namespace sucrose;

namespace {

void check_table(FuzzedBytes &input, std::size_t itemsize) {
    std::vector<std::uint64_t> sizes;
    for (int i = 0; i < 3; ++i) {
        sizes.push_back(input.number(3));
    }
    const std::uint64_t file_nbytes = 2 * chunk_nbytes + 1000;
    try {
        const ChunkTable table(sizes, {0, static_cast<std::uint8_t>(itemsize), 0}, file_nbytes);
        if (table.stored_nbytes() != sizes[0] + sizes[1] + sizes[2] ||
            table.offset(2) + table.nbytes(2) != table.stored_nbytes()) {
            std::abort();
        }
    } catch (const Error &) {
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t nbytes) {
    static Decoder decoder;
    FuzzedBytes input(data, nbytes);
    const std::size_t itemsize = fuzzed_itemsizes[input.byte() % 4];
    const std::uint64_t length = input.number(2);
    check_table(input, itemsize);
    const std::size_t raw_nbytes = length >> 15 != 0 ? chunk_nbytes : length;
    // Memory of exactly these sizes: what reads or writes past their ends is seen.
    const std::span<const std::byte> rest = input.rest();
    const std::vector<std::byte> encoded(rest.begin(), rest.end());
    const auto raw = std::make_unique<std::byte[]>(raw_nbytes);
    std::size_t consumed = 0;
    const auto consume = [&](std::size_t at, std::span<const std::byte> bytes) {
        if (at != consumed) {
            std::abort();
        }
        consumed += bytes.size();
    };
    const std::string why_not = decoder.decode(encoded, itemsize, {raw.get(), raw_nbytes}, consume);
    if (consumed != (why_not.empty() ? raw_nbytes : 0)) {
        std::abort();
    }
    if (why_not.empty() && raw_nbytes != 0) { // all of it was written
        const auto again = std::make_unique<std::byte[]>(raw_nbytes);
        std::fill_n(again.get(), raw_nbytes, std::byte{0xA5});
        consumed = 0;
        decoder.decode(encoded, itemsize, {again.get(), raw_nbytes}, consume);
        if (!std::equal(raw.get(), raw.get() + raw_nbytes, again.get())) {
            std::abort();
        }
    }
    return 0;
}
