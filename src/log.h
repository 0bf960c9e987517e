/*
 * Messages for people, on standard error, one write a line. A line that standard error has no room
 * for is lost.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

enum log_level {
	LOG_ERROR,   /* the program ends because of it, or was asked for it */
	LOG_WARNING, /* shown unless --quiet */
	LOG_DETAIL,  /* shown with --verbose */
};

/*
 * Sets the program's name for all messages, and the highest level that is shown.
 */
void log_open(const char *program, enum log_level highest);

/*
 * Shows `text` on the last line of the terminal that standard error is; the next one, or the next
 * message, takes its place.
 */
void log_status(const char *text);

/* Leaves what log_status() showed standing. */
void log_end_status(void);

/* From now on nothing is written at all. */
void log_mute(void);

bool log_shows(enum log_level level);

/* Writes "program: message\n"; `format` as in printf, without the newline. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void log_line(enum log_level level, const char *format, ...);

#endif
