// What tests of the engine share: a folder, bytes, and extents of them.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "extents.h"
#include "pipeline.h"

namespace engine_fixture {

// A folder that goes with the test.
class Folder {
public:
    Folder() {
        std::string pattern = std::filesystem::temp_directory_path() / "sucrose-XXXXXX";
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;

    std::string file(const std::string &name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

inline std::vector<std::byte> random_bytes(std::size_t nbytes) {
    std::mt19937_64 random(nbytes);
    std::vector<std::byte> bytes(nbytes);
    for (std::size_t at = 0; at < nbytes; at += sizeof(std::uint64_t)) {
        const std::uint64_t word = random();
        std::memcpy(bytes.data() + at, &word, std::min(sizeof word, nbytes - at));
    }
    return bytes;
}

inline std::uint64_t address(const std::vector<std::byte> &bytes) {
    return reinterpret_cast<std::uint64_t>(bytes.data());
}

// `bytes` as extents of `piece` bytes each.
inline sucrose::ExtentList in_pieces(const std::vector<std::byte> &bytes, std::size_t piece) {
    sucrose::ExtentList extents;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        extents.append(at, std::min(piece, bytes.size() - at), address(bytes) + at);
    }
    return extents;
}

inline void wait(sucrose::Job &job) {
    while (!job.wait_for(std::chrono::milliseconds(100))) {
    }
}

inline std::vector<std::byte> contents(const std::string &path) {
    std::vector<std::byte> bytes(std::filesystem::file_size(path));
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    REQUIRE(file.gcount() == static_cast<std::streamsize>(bytes.size()));
    return bytes;
}

} // namespace engine_fixture
