#include "text/bpe.h"

#include <algorithm>
#include <functional>

#include "text/utf8.h"

namespace ng {

Bpe::Bpe(const TokenizerData& data) : data_(data), first_(data.pieces.size() + 1) {
  for (const Merge& merge : data.merges) ++first_[merge.left + 1];
  for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];

  std::vector<bool> special(data.pieces.size());
  for (const AddedToken& token : data.added) special[token.id] = token.special;
  for (uint32_t id = 0; id < data.pieces.size(); ++id) {
    const std::string& piece = data.pieces[id];
    if (piece.empty() || piece.size() > 4 || special[id]) continue;
    const Scalar scalar = decode_utf8(piece, 0);
    if (scalar.size != piece.size()) continue;
    const uint32_t page = scalar.code >> 8;
    if (page >= page_of_.size()) page_of_.resize(page + 1, kNone);
    if (page_of_[page] == kNone) {
      page_of_[page] = static_cast<uint32_t>(pages_.size());
      pages_.resize(pages_.size() + 256, kNone);
    }
    pages_[page_of_[page] + (scalar.code & 0xFF)] = id;
  }
}

// Sets what chain[at] and its right neighbour would merge to, and queues it.
void Bpe::look_up(const std::vector<Symbol>& word, uint32_t at, Order order, Room& room) const {
  Room::Link& link = room.chain[at];
  link.rank = kNone;
  if (link.next == kNone) return;
  const Symbol &left = word[at], &right = word[link.next];
  if (left.id == kNone || right.id == kNone || left.verbatim || right.verbatim) return;
  const Merge* const begin = data_.merges.data() + first_[left.id];
  const Merge* const end = data_.merges.data() + first_[left.id + 1];
  const Merge* const found = std::ranges::lower_bound(begin, end, right.id, {}, &Merge::right);
  if (found == end || found->right != right.id) return;
  link.result = found->result;
  link.rank = order == Order::merge_rank ? found->rank : data_.piece_rank[found->result];
  room.queue.push_back(uint64_t{link.rank} << 32 | at);
}

void Bpe::merge(std::vector<Symbol>& word, Order order, Room& room) const {
  const auto size = static_cast<uint32_t>(word.size());
  auto& [chain, queue] = room;
  chain.resize(size);
  queue.clear();
  for (uint32_t at = 0; at < size; ++at)
    chain[at] = {at - 1, at + 1 < size ? at + 1 : kNone, kNone, 0};
  for (uint32_t at = 0; at < size; ++at) look_up(word, at, order, room);
  if (queue.empty()) return;
  std::ranges::make_heap(queue, std::greater<>());
  while (!queue.empty()) {
    std::ranges::pop_heap(queue, std::greater<>());
    const uint64_t top = queue.back();
    queue.pop_back();
    const auto at = static_cast<uint32_t>(top);
    if (chain[at].rank != top >> 32) continue;  // the pair is no longer there
    const uint32_t gone = chain[at].next;
    word[at].id = chain[at].result;
    word[gone].id = kNone;
    chain[gone].rank = kNone;
    chain[at].next = chain[gone].next;
    if (chain[at].next != kNone) chain[chain[at].next].previous = at;
    for (const uint32_t left : {chain[at].previous, at}) {
      if (left == kNone) continue;
      const size_t before = queue.size();
      look_up(word, left, order, room);
      if (queue.size() > before) std::ranges::push_heap(queue, std::greater<>());
    }
  }
  size_t kept = 0;
  for (uint32_t at = 0; at != kNone; at = chain[at].next) word[kept++] = word[at];
  word.resize(kept);
}

}  // namespace ng
