// Which stream made what, so that work on another stream that did not wait for it is an error, as it is a race on a card.
#include "simulator.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <vector>

namespace npusim {
namespace {

struct Made {
  c10::StreamId stream; // where its memory was taken
  c10::StreamId writer; // where it was last written
  int64_t at;           // how far that stream had come
  std::map<c10::StreamId, int64_t> users; // other streams, and up to where each may use it
  std::set<c10::StreamId> recorded;
};

std::mutex mutex;
std::map<const void*, Made> blocks;
std::map<c10::StreamId, int64_t> reached;                                 // work given to each stream
std::map<std::pair<c10::StreamId, c10::StreamId>, int64_t> waited;        // (who, for whom): up to where
constexpr c10::StreamId kHost = -1;
constexpr c10::StreamId kUnderWay = -2; // what a collective is going to write: nobody can have waited for it

int64_t collectives = 0; // under way
std::condition_variable collective_done;

bool is_watched() {
  static const bool on = [] {
    const char* text = std::getenv("NPUSIM_RACES");
    return text != nullptr && std::strcmp(text, "error") == 0;
  }();
  return on;
}

// Memory that went back to its stream while another one may still use it: whatever is made there next may get it.
struct GivenBack {
  c10::StreamId user;
  int64_t at;
};
std::map<c10::StreamId, std::vector<GivenBack>> given_back;

// What the host has waited for is done for everybody.
bool has_waited(c10::StreamId who, c10::StreamId whom, int64_t at) {
  return std::max(waited[{who, whom}], waited[{kHost, whom}]) >= at;
}

void check_reuse(c10::StreamId stream) {
  const auto found = given_back.find(stream);
  if (found == given_back.end()) {
    return;
  }
  const auto all = std::move(found->second);
  given_back.erase(found);
  for (const auto& [user, at] : all) {
    TORCH_CHECK(
        has_waited(stream, user, at), "memory of stream ", stream, " is used again while stream ", user,
        " may still work with it; it was not told by record_stream");
  }
}

} // namespace

void note_made(const void* data) {
  if (!is_watched()) {
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex);
  const auto stream = current_stream_id();
  check_reuse(stream);
  if (data == nullptr) {
    return; // empty tensors share it
  }
  blocks[data] = {stream, stream, ++reached[stream], {}, {}};
}

void note_written(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = blocks.find(data);
  if (found != blocks.end()) {
    found->second.writer = current_stream_id();
    found->second.at = ++reached[found->second.writer];
  }
}

void note_under_way(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = blocks.find(data);
  if (found != blocks.end()) {
    found->second.writer = kUnderWay;
    found->second.at = 0;
  }
}

void note_used(const void* data) {
  if (!is_watched()) {
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = blocks.find(data);
  const auto stream = current_stream_id();
  if (found == blocks.end()) {
    return;
  }
  auto& made = found->second;
  TORCH_CHECK(
      made.writer != kUnderWay, "stream ", stream, " uses what a collective is going to write and did not wait for it");
  TORCH_CHECK(
      stream == made.writer || has_waited(stream, made.writer, made.at),
      "stream ", stream, " uses what stream ", made.writer, " wrote and did not wait for it");
  if (stream != made.stream) {
    made.users[stream] = ++reached[stream];
  }
}

void note_recorded(const void* data, c10::StreamId stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = blocks.find(data);
  if (found != blocks.end()) {
    found->second.recorded.insert(stream);
  }
}

void note_freed(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = blocks.find(data);
  if (found == blocks.end()) {
    return;
  }
  for (const auto& [user, at] : found->second.users) {
    if (found->second.recorded.count(user) == 0) {
      given_back[found->second.stream].push_back({user, at});
    }
  }
  blocks.erase(found);
}

int64_t stream_position(c10::StreamId stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  return reached[stream];
}

void note_waited(c10::StreamId who, c10::StreamId whom, int64_t at) {
  const std::lock_guard<std::mutex> lock(mutex);
  auto& known = waited[{who, whom}];
  known = std::max(known, at);
}

void note_host_waited(c10::StreamId whom) {
  note_waited(kHost, whom, stream_position(whom));
}

void note_host_waited_for_all() {
  wait_for_collectives();
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [stream, at] : reached) {
    waited[{kHost, stream}] = at;
  }
}

void collective_started() {
  const std::lock_guard<std::mutex> lock(mutex);
  ++collectives;
}

void collective_finished() {
  const std::lock_guard<std::mutex> lock(mutex);
  --collectives;
  collective_done.notify_all();
}

void wait_for_collectives() {
  std::unique_lock<std::mutex> lock(mutex);
  collective_done.wait(lock, [] { return collectives == 0; });
}

} // namespace npusim
