// Which stream made what, so that work on another stream that did not wait for it is an error, as it is a race on a card.
#include "simulator.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <mutex>
#include <set>

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
std::string fault;
constexpr c10::StreamId kHost = -1;

void raise_fault() {
  if (!fault.empty()) {
    const std::string text = std::move(fault);
    fault.clear();
    TORCH_CHECK(false, text);
  }
}

} // namespace

void note_made(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto stream = current_stream_id();
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

void note_used(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  raise_fault();
  const auto found = blocks.find(data);
  const auto stream = current_stream_id();
  if (found == blocks.end()) {
    return;
  }
  auto& made = found->second;
  // What the host has waited for is done for everybody.
  const auto known = std::max(waited[{stream, made.writer}], waited[{kHost, made.writer}]);
  TORCH_CHECK(
      stream == made.writer || known >= made.at,
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
    if (found->second.recorded.count(user) == 0 && waited[{kHost, user}] < at) {
      fault = "memory of stream " + std::to_string(found->second.stream) + " was given back while stream " +
          std::to_string(user) + " may still use it; it was not told by record_stream";
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
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [stream, at] : reached) {
    waited[{kHost, stream}] = at;
  }
}

} // namespace npusim
