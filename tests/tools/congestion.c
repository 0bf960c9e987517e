#include "congestion.h"
#include "tool.h"

void congestion_start(struct congestion *c, double first, double least, double most)
{
	*c = (struct congestion){.window = first, .threshold = most, .least = least, .most = most};
}

static void halve(struct congestion *c, uint64_t next)
{
	c->threshold = c->window / 2 > c->least ? c->window / 2 : c->least;
	c->window = c->threshold;
	c->recovery = next;
}

/* Nothing has been heard for long: all that is in flight counts as lost. */
static void start_anew(struct congestion *c, uint64_t next, int64_t now)
{
	halve(c, next);
	c->window = c->least;
	c->answered = next;
	c->heard_at = now;
}

bool congestion_allows(struct congestion *c, uint64_t next, int64_t now)
{
	int64_t patience = 3 * c->round_trip > SECOND ? 3 * c->round_trip : SECOND;

	if (next == c->answered)
		c->heard_at = now;
	else if (now - c->heard_at > patience)
		start_anew(c, next, now);
	return next - c->answered < (uint64_t)c->window;
}

void congestion_answer(
	struct congestion *c, uint64_t sequence, uint64_t next, int64_t sent, int64_t now)
{
	if (sequence < c->answered || sequence >= next)
		return;
	c->round_trip = now - sent;
	c->heard_at = now;
	if (sequence > c->answered && c->answered >= c->recovery)
		halve(c, next);
	else if (sequence >= c->recovery)
		c->window += c->window < c->threshold ? 1 : 1 / c->window;
	if (c->window > c->most)
		c->window = c->most;
	c->answered = sequence + 1;
}
