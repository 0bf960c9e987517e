#include "limit.h"

#include <stdbool.h>
#include <sys/resource.h>

static struct rlimit original;
static bool is_known;

void limit_raise(void)
{
	is_known = getrlimit(RLIMIT_NOFILE, &original) == 0;
	limit_raise_again();
}

void limit_raise_again(void)
{
	struct rlimit raised = original;

	raised.rlim_cur = raised.rlim_max;
	if (is_known)
		(void)setrlimit(RLIMIT_NOFILE, &raised);
}

void limit_restore(void)
{
	if (is_known)
		(void)setrlimit(RLIMIT_NOFILE, &original);
}
