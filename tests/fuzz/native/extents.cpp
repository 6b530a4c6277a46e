// Pieces of memory with any layout, as a file and back.
//
// Input: pieces, each its item size, its dimensions, and for each of those a length and a stride in
// items; and how long the parts are in which the file is gathered.
#include "extents.h"
#include "error.h"
#include "fuzzed_bytes.h"

#include <cstdlib>
#include <deque>
#include <vector>

using namespace sucrose;

namespace {

struct Piece {
    std::vector<std::int64_t> shape;
    std::vector<std::int64_t> strides; // in bytes
    std::size_t itemsize;
    std::vector<std::byte> memory;
    std::size_t first = 0; // of element (0, ..., 0) in `memory`
    std::size_t nbytes = 1;
};

Piece piece_of(FuzzedBytes &input, std::uint8_t &filler) {
    Piece piece;
    piece.itemsize = 1 + input.byte() % 16;
    const std::size_t ndim = input.byte() % 5;
    std::int64_t lowest = 0;
    std::int64_t highest = 0;
    piece.nbytes = piece.itemsize;
    for (std::size_t i = 0; i < ndim; ++i) {
        const std::int64_t length = 1 + input.byte() % 9;
        const auto items = static_cast<std::int64_t>(static_cast<std::int8_t>(input.byte()));
        const std::int64_t stride = items * static_cast<std::int64_t>(piece.itemsize);
        piece.shape.push_back(length);
        piece.strides.push_back(stride);
        (stride < 0 ? lowest : highest) += (length - 1) * stride;
        piece.nbytes *= static_cast<std::size_t>(length);
    }
    piece.first = static_cast<std::size_t>(-lowest);
    piece.memory.resize(static_cast<std::size_t>(highest - lowest) + piece.itemsize);
    for (std::byte &each : piece.memory) {
        each = static_cast<std::byte>(filler++);
    }
    return piece;
}

// Element after element, as slowly as it can be done.
std::vector<std::byte> elements_of(const Piece &piece) {
    std::vector<std::byte> bytes;
    std::vector<std::int64_t> index(piece.shape.size(), 0);
    while (true) {
        std::int64_t at = static_cast<std::int64_t>(piece.first);
        for (std::size_t i = 0; i < index.size(); ++i) {
            at += index[i] * piece.strides[i];
        }
        const auto element = piece.memory.begin() + at;
        bytes.insert(bytes.end(), element, element + static_cast<std::ptrdiff_t>(piece.itemsize));
        std::size_t dim = index.size();
        while (dim > 0 && ++index[dim - 1] == piece.shape[dim - 1]) {
            index[--dim] = 0;
        }
        if (dim == 0) {
            return bytes;
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t nbytes) {
    FuzzedBytes input(data, nbytes);
    std::deque<Piece> pieces;
    std::vector<std::byte> expected;
    ExtentList extents;
    std::uint8_t filler = 0;
    const std::size_t count = 1 + input.byte() % 4;
    for (std::size_t i = 0; i < count; ++i) {
        const Piece &piece = pieces.emplace_back(piece_of(input, filler));
        const auto address = reinterpret_cast<std::uint64_t>(piece.memory.data() + piece.first);
        extents.append(expected.size(), piece.nbytes, address);
        extents.set_layout(i, StridedLayout(piece.shape, piece.strides, piece.itemsize));
        const std::vector<std::byte> elements = elements_of(piece);
        expected.insert(expected.end(), elements.begin(), elements.end());
    }
    const std::size_t step = 1 + input.number(2);
    for (std::size_t at = 0; at < expected.size(); at += step) {
        std::vector<std::byte> part(std::min(step, expected.size() - at));
        extents.gather(at, part.size(), part.data());
        if (!std::equal(part.begin(), part.end(),
                        expected.begin() + static_cast<std::ptrdiff_t>(at))) {
            std::abort();
        }
        extents.scatter(at, part); // the same bytes to where they are: nothing changes
    }
    std::vector<std::byte> again(expected.size());
    extents.gather(0, again.size(), again.data());
    if (again != expected) {
        std::abort();
    }
    return 0;
}
