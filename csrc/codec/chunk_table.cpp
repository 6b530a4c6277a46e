#include "codec/chunk_table.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codec/codec.h"
#include "error.h"

namespace sucrose {

ChunkTable::ChunkTable(const std::vector<std::uint64_t> &nbytes,
                       std::vector<std::uint8_t> itemsizes, std::uint64_t file_nbytes)
    : itemsizes_(std::move(itemsizes)) {
    const std::uint64_t count =
        file_nbytes / chunk_nbytes + (file_nbytes % chunk_nbytes == 0 ? 0 : 1);
    if (nbytes.size() != count) {
        throw Error("a chunk table of " + std::to_string(nbytes.size()) + " chunks, " +
                    std::to_string(count) + " expected for " + std::to_string(file_nbytes) +
                    " bytes");
    }
    check_itemsizes(itemsizes_, nbytes.size());
    ends_.reserve(nbytes.size());
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < nbytes.size(); ++i) {
        const std::uint64_t raw =
            std::min<std::uint64_t>(chunk_nbytes, file_nbytes - i * chunk_nbytes);
        if (nbytes[i] == 0 || nbytes[i] > raw + max_frames_overhead_nbytes) {
            throw Error("chunk " + std::to_string(i) + " of " + std::to_string(raw) +
                        " bytes cannot be encoded in " + std::to_string(nbytes[i]));
        }
        end += nbytes[i];
        ends_.push_back(end);
    }
}

void check_itemsizes(const std::vector<std::uint8_t> &itemsizes, std::size_t chunk_count) {
    if (!itemsizes.empty() && itemsizes.size() != chunk_count) {
        throw Error(std::to_string(itemsizes.size()) + " byte-group filters for " +
                    std::to_string(chunk_count) + " chunks");
    }
    for (const std::uint8_t size : itemsizes) {
        if (size != 0 && size != 2 && size != 4 && size != 8) {
            throw Error("byte groups are of items of 2, 4 or 8 bytes, not " + std::to_string(size));
        }
    }
}

} // namespace sucrose
