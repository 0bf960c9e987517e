#include "writes.h"

static struct write *write_at(struct writes *writes, size_t i)
{
	return &writes->ring[(writes->first + i) % WRITES_MAX];
}

void writes_add(struct writes *writes, const struct write *write, uint64_t together_us)
{
	struct write *last;

	if (writes->count > 0) {
		last = write_at(writes, writes->count - 1);
		if (writes->count == WRITES_MAX || write->sent_us - last->sent_us < together_us) {
			last->end = write->end;
			last->is_app_limited |= write->is_app_limited;
			return;
		}
	}
	*write_at(writes, writes->count++) = *write;
}

bool writes_take(struct writes *writes, uint64_t acked, struct write *last)
{
	bool was_read = false;

	while (writes->count > 0 && writes->ring[writes->first].start < acked) {
		*last = writes->ring[writes->first];
		was_read = true;
		if (last->end > acked)
			break;
		writes->first = (writes->first + 1) % WRITES_MAX;
		writes->count--;
	}
	return was_read;
}
