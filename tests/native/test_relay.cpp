#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "engine.h"
#include "engine_fixture.h"
#include "error.h"
#include "io/relay.h"

namespace {

using namespace engine_fixture;
using namespace std::chrono_literals;
using sucrose::chunk_nbytes;
using sucrose::Engine;
using sucrose::Job;
using sucrose::ReadJob;
using sucrose::Relay;
using sucrose::WriteJob;

WriteJob::Options relayed(std::size_t max_in_flight = 0) {
    WriteJob::Options options;
    options.relayed = true;
    options.max_in_flight = max_in_flight;
    return options;
}

// Waits for as long as it takes.
Relay::Taken take(Relay &relay, std::optional<Relay::Load> &load) {
    Relay::Taken taken = Relay::Taken::nothing_yet;
    while (taken == Relay::Taken::nothing_yet) {
        taken = relay.take(100ms, load);
    }
    return taken;
}

std::vector<std::byte> receive(Job &job) {
    std::vector<std::byte> stored;
    std::optional<Relay::Load> load;
    while (take(*job.relay(), load) == Relay::Taken::load) {
        CHECK(load->offset() == stored.size());
        stored.insert(stored.end(), load->bytes().begin(), load->bytes().end());
        load->settle(Relay::carried_out);
    }
    return stored;
}

void serve(Job &job, const std::vector<std::byte> &stored) {
    std::optional<Relay::Load> load;
    while (take(*job.relay(), load) == Relay::Taken::load) {
        const auto from = stored.begin() + static_cast<std::ptrdiff_t>(load->offset());
        std::copy_n(from, load->bytes().size(), load->bytes().begin());
        load->settle(Relay::carried_out);
    }
}

} // namespace

TEST_CASE("what a relayed write hands out is what a write puts into a file, and comes back") {
    const Folder folder;
    Engine engine({.slot_count = 3, .worker_count = 2});
    int count = 0;
    for (const bool encoded : {false, true}) {
        for (const std::size_t nbytes :
             {std::size_t{0}, std::size_t{1}, chunk_nbytes + 1, 5 * chunk_nbytes + 12345}) {
            CAPTURE(encoded);
            CAPTURE(nbytes);
            const std::vector<std::byte> source = random_bytes(nbytes);
            WriteJob::Options options;
            options.durable = false;
            if (encoded) {
                options.encoding.emplace();
            }
            const std::string path = folder.file(std::to_string(count++));
            auto file = engine.write(path, in_pieces(source, 1000003), {}, options);
            wait(*file);
            options.relayed = true;
            auto write = engine.write("name", in_pieces(source, 1000003), {}, options);
            const std::vector<std::byte> stored = receive(*write);
            wait(*write);
            CHECK(stored == contents(path));
            CHECK(write->digests() == file->digests());

            std::vector<std::byte> target(nbytes);
            ReadJob::Options read;
            read.file_nbytes = nbytes;
            read.digests = write->digests();
            read.relayed = true;
            if (encoded) {
                read.stored.emplace(write->encoded()->packer().sizes(),
                                    write->encoded()->itemsizes(), nbytes);
            }
            auto job = engine.read("name", in_pieces(target, 777777), {}, read);
            serve(*job, stored);
            wait(*job);
            CHECK(job->corrupt().empty());
            CHECK(target == source);
        }
    }
}

TEST_CASE("no more of a relayed write is out than it may have in the ring") {
    Engine engine({.slot_count = 8, .worker_count = 2});
    const std::vector<std::byte> source = random_bytes(6 * chunk_nbytes);
    auto job = engine.write("name", in_pieces(source, source.size()), {}, relayed(2));
    {
        std::optional<Relay::Load> first;
        std::optional<Relay::Load> second;
        std::optional<Relay::Load> third;
        REQUIRE(take(*job->relay(), first) == Relay::Taken::load);
        REQUIRE(take(*job->relay(), second) == Relay::Taken::load);
        CHECK(job->relay()->take(50ms, third) == Relay::Taken::nothing_yet);
        second->settle(Relay::carried_out);
        second.reset();
        REQUIRE(take(*job->relay(), third) == Relay::Taken::load);
        CHECK(third->offset() == 2 * chunk_nbytes);
        first->settle(Relay::carried_out);
        third->settle(Relay::carried_out);
    }
    std::optional<Relay::Load> load;
    std::size_t nbytes = 3 * chunk_nbytes;
    while (take(*job->relay(), load) == Relay::Taken::load) {
        nbytes += load->bytes().size();
        load->settle(Relay::carried_out);
    }
    wait(*job);
    CHECK(nbytes == source.size());
}

TEST_CASE(
    "a relayed job that has failed ends while its carrier has loads, whose slots stay theirs") {
    Engine engine({.slot_count = 2, .worker_count = 2});
    const std::vector<std::byte> source = random_bytes(4 * chunk_nbytes);
    const std::vector<std::byte> zeros(4 * chunk_nbytes);
    for (const int outcome : {EPIPE, int{Relay::lost}}) {
        auto job = engine.write("name", in_pieces(source, source.size()), {}, relayed(2));
        std::optional<Relay::Load> kept;
        REQUIRE(take(*job->relay(), kept) == Relay::Taken::load);
        {
            std::optional<Relay::Load> bad;
            REQUIRE(take(*job->relay(), bad) == Relay::Taken::load);
            bad->settle(outcome);
        }
        try {
            wait(*job);
            FAIL("nobody noticed");
        } catch (const sucrose::SystemError &error) {
            CHECK(outcome == EPIPE);
            CHECK(error.error_number() == EPIPE);
            CHECK(error.path() == "name");
        } catch (const sucrose::Cancelled &) {
            CHECK(outcome == Relay::lost);
        }
        std::optional<Relay::Load> none;
        CHECK(job->relay()->take(0ms, none) == Relay::Taken::closed);
        auto next = engine.write("next", in_pieces(zeros, zeros.size()), {}, relayed(2));
        CHECK(receive(*next) == zeros);
        wait(*next);
        CHECK(std::equal(kept->bytes().begin(), kept->bytes().end(), source.begin()));
    }
}

TEST_CASE("an engine that goes cancels what nobody carries") {
    const std::vector<std::byte> source = random_bytes(6 * chunk_nbytes);
    std::vector<std::byte> target(source.size());
    std::shared_ptr<WriteJob> write;
    std::shared_ptr<ReadJob> read;
    {
        Engine engine({.slot_count = 2});
        write = engine.write("name", in_pieces(source, source.size()), {}, relayed());
        ReadJob::Options options;
        options.file_nbytes = target.size();
        options.relayed = true;
        read = engine.read("name", in_pieces(target, target.size()), {}, options);
    }
    CHECK_THROWS_AS(write->wait_for(0ms), sucrose::Cancelled);
    CHECK_THROWS_AS(read->wait_for(0ms), sucrose::Cancelled);
}

TEST_CASE("carriers of several relayed jobs and of files come to an end, whoever is cancelled") {
    const Folder folder;
    const std::vector<std::byte> source = random_bytes(5 * chunk_nbytes + 77);
    Engine engine({.slot_count = 3, .worker_count = 2});
    std::mt19937 random(7);
    for (int round = 0; round < 12; ++round) {
        std::vector<std::shared_ptr<WriteJob>> jobs;
        std::vector<std::jthread> carriers;
        for (int i = 0; i < 3; ++i) {
            WriteJob::Options options = relayed(1 + static_cast<std::size_t>(i));
            if (i == 1) {
                options.encoding.emplace();
            }
            jobs.push_back(engine.write("name", in_pieces(source, 999999), {}, options));
            for (int k = 0; k < 2; ++k) {
                carriers.emplace_back([job = jobs.back()] {
                    std::optional<Relay::Load> load;
                    while (take(*job->relay(), load) == Relay::Taken::load) {
                        load->settle(Relay::carried_out);
                    }
                });
            }
        }
        const std::string path = folder.file(std::to_string(round));
        auto file = engine.write(path, in_pieces(source, source.size()), {}, {.durable = false});
        const std::size_t unlucky = random() % 3;
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
        jobs[unlucky]->cancel();
        wait(*file);
        for (std::size_t i = 0; i < jobs.size(); ++i) {
            try {
                wait(*jobs[i]);
                CHECK(jobs[i]->done_nbytes() == source.size());
            } catch (const sucrose::Cancelled &) {
                CHECK(i == unlucky);
            }
        }
    }
}
