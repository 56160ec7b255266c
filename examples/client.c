/* A line's controller in C: triggers a station over HTTP and JSON, and says whether the part may go on.
 *
 *     gcc -std=c11 -O2 -Wall -Wextra -Werror -o client examples/client.c
 *     ./client localhost 8080 part-4711
 *     EDGE_AD_TOKEN=... ./client station.local 8080 part-4711 top
 *
 * Prints a line for each camera: its name, verdict, score and threshold. Exits with 0 if every camera says "good", with 1
 * if one does not, and with 2 if there is no answer to trust. Whatever is not 0 is a reject: no verdict is no "good".
 *
 * Sockets and the C library only. The answer is read with a scanner that knows strings and nesting, so that no part id,
 * whatever is in it, is taken for a verdict.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { GOOD = 0, REJECT = 1, NO_ANSWER = 2 };
enum { WAIT_MS = 5000, PATIENCE_S = 10, MOST_ANSWER = 1 << 20, MOST_REQUEST = 8192, MOST_TEXT = 300 };

static int complain(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return NO_ANSWER;
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

/* Writes `text` as a JSON string; false if it does not fit. */
static bool write_string(char *out, size_t room, const char *text) {
    size_t used = 0;
    if (room < 3) return false;
    out[used++] = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (used + 8 > room) return false;
        if (c < 0x20)
            used += (size_t)snprintf(out + used, room - used, "\\u%04x", c);
        else {
            if (c == '"' || c == '\\') out[used++] = '\\';
            out[used++] = (char)c;
        }
    }
    out[used++] = '"';
    out[used] = '\0';
    return true;
}

/* Copies the string that begins at `at` without its quotes, escapes as they stand; returns what follows it, or NULL. */
static const char *read_string(const char *at, char *out, size_t room) {
    size_t used = 0;
    for (at++; *at && *at != '"'; at++) {
        if (*at == '\\') {
            if (used + 1 < room) out[used++] = *at;
            if (!*++at) return NULL;
        }
        if (used + 1 < room) out[used++] = *at;
    }
    out[used] = '\0';
    return *at == '"' ? at + 1 : NULL;
}

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

typedef struct {
    int triggers, good;
} Tally;

typedef struct {
    char camera[MOST_TEXT], verdict[MOST_TEXT], score[MOST_TEXT], threshold[MOST_TEXT];
} Row;

static void end_trigger(const Row *row, Tally *tally) {
    bool is_good = strcmp(row->verdict, "good") == 0;
    tally->triggers++;
    tally->good += is_good;
    printf("%s %s score %s threshold %s\n", row->camera, *row->verdict ? row->verdict : "no verdict in time",
           *row->score ? row->score : "-", *row->threshold ? row->threshold : "-");
}

/* {"triggers": [{"camera": ..., "verdict": null or {"verdict": "good", "score": ..., ...}}, ...]}: an object within
 * "triggers" is at depth 3, its verdict at depth 4. False if it is not JSON to its end. */
static bool read_answer(const char *at, Tally *tally) {
    enum { TRIGGER = 3, VERDICT = 4 };
    char key[MOST_TEXT] = "", text[MOST_TEXT];
    Row row = {0};
    int depth = 0;
    for (at = skip_space(at); *at; at = skip_space(at)) {
        if (*at == '{' || *at == '[') {
            if (*at == '{' && depth + 1 == TRIGGER) row = (Row){0};
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            if (*at == '}' && depth == TRIGGER) end_trigger(&row, tally);
            if (--depth == 0) return *skip_space(at + 1) == '\0';
            at++;
        } else if (*at == ',' || *at == ':') {
            at++;
        } else {
            bool is_string = *at == '"';
            if (is_string) {
                at = read_string(at, text, sizeof text);
                if (!at) return false;
                if (*skip_space(at) == ':') {
                    memcpy(key, text, sizeof key);
                    continue;
                }
            } else {
                size_t length = strcspn(at, ",]} \t\r\n");
                if (length == 0 || length >= sizeof text) return false;
                memcpy(text, at, length);
                text[length] = '\0';
                at += length;
            }
            if (depth == TRIGGER && strcmp(key, "camera") == 0) memcpy(row.camera, text, sizeof text);
            if (depth != VERDICT) continue;
            if (is_string && strcmp(key, "verdict") == 0) memcpy(row.verdict, text, sizeof text);
            if (strcmp(key, "score") == 0) memcpy(row.score, text, sizeof text);
            if (strcmp(key, "threshold") == 0) memcpy(row.threshold, text, sizeof text);
        }
    }
    return false;
}

/* --- HTTP --------------------------------------------------------------------------------------------------------- */

static int connect_to(const char *host, const char *port) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found, *one;
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int link = -1, on = 1;
    if (getaddrinfo(host, port, &hints, &found) != 0) return -1;
    for (one = found; one; one = one->ai_next) {
        link = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
        if (link < 0) continue;
        setsockopt(link, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(link, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        setsockopt(link, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(link, one->ai_addr, one->ai_addrlen) == 0) break;
        close(link);
        link = -1;
    }
    freeaddrinfo(found);
    return link;
}

static bool send_all(int link, const char *content, size_t length) {
    while (length > 0) {
        ssize_t sent = send(link, content, length, 0);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        content += sent;
        length -= (size_t)sent;
    }
    return true;
}

/* Everything until the station closes the connection, as text; NULL if it broke off or is too long. */
static char *receive_all(int link) {
    char *content = malloc(MOST_ANSWER + 1);
    size_t used = 0;
    while (content && used < MOST_ANSWER) {
        ssize_t got = recv(link, content + used, MOST_ANSWER - used, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        if (got == 0) {
            content[used] = '\0';
            if (strlen(content) == used) return content;
            break;
        }
        used += (size_t)got;
    }
    free(content);
    return NULL;
}

static bool compose(char *request, size_t room, const char *host, const char *part, const char *camera) {
    char quoted[2][1024], body[2560], authorization[1100] = "";
    const char *token = getenv("EDGE_AD_TOKEN");
    int length;
    if (!write_string(quoted[0], sizeof quoted[0], part)) return false;
    if (camera && !write_string(quoted[1], sizeof quoted[1], camera)) return false;
    snprintf(body, sizeof body, "{\"part_id\": %s, \"wait_ms\": %d%s%s}", quoted[0], WAIT_MS,
             camera ? ", \"camera\": " : "", camera ? quoted[1] : "");
    if (token && (strpbrk(token, "\r\n") || strlen(token) > 1000)) return false;
    if (token) snprintf(authorization, sizeof authorization, "Authorization: Bearer %s\r\n", token);
    length = snprintf(request, room,
                      "POST /api/trigger HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s"
                      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                      host, authorization, strlen(body), body);
    return length > 0 && (size_t)length < room;
}

int main(int count, char **arguments) {
    char request[MOST_REQUEST], *answer, *body;
    Tally tally = {0};
    int link, status = 0;
    if (count < 4 || count > 5) return complain("usage: %s HOST PORT PART_ID [CAMERA]", arguments[0]);
    signal(SIGPIPE, SIG_IGN);
    if (!compose(request, sizeof request, arguments[1], arguments[3], count == 5 ? arguments[4] : NULL))
        return complain("the host, part id, camera or token is too long, or no text");
    link = connect_to(arguments[1], arguments[2]);
    if (link < 0) return complain("%s:%s cannot be reached", arguments[1], arguments[2]);
    answer = send_all(link, request, strlen(request)) ? receive_all(link) : NULL;
    close(link);
    if (!answer) return complain("the station did not answer within %d s", PATIENCE_S);
    body = strstr(answer, "\r\n\r\n");
    if (sscanf(answer, "HTTP/1.%*1d %3d", &status) != 1 || !body) {
        free(answer);
        return complain("this is no HTTP answer");
    }
    if (status != 200 && status != 202) {
        complain("the station refuses (%d): %s", status, body + 4);
        free(answer);
        return NO_ANSWER;
    }
    if (!read_answer(body + 4, &tally)) tally.triggers = 0;
    free(answer);
    if (tally.triggers == 0) return complain("the answer is not the interface's");
    return status == 200 && tally.good == tally.triggers ? GOOD : REJECT;
}
