/* What the bench's upstream says in each dialect: OpenAI, Ollama's native API, Anthropic's Messages API.
 *
 * Everything is constant text except the stamp (the monotonic time at which an event is sent, 19 digits of
 * nanoseconds behind "t=") and the token count at the end, so that the upstream costs next to nothing per event. */
#ifndef BENCH_DIALECTS_H
#define BENCH_DIALECTS_H

#define STAMP "t=0000000000000000000"
#define STAMP_DIGITS 19

/* 45 letters; twelve of them make an answer of about 1 KB. */
#define FOX "The quick brown fox jumps over the lazy dog. "
#define PROSE FOX FOX FOX FOX FOX FOX FOX FOX FOX FOX FOX FOX

struct dialect {
    const char *whole_type;  /* content type of a whole answer */
    const char *whole;       /* its body */
    const char *stream_type; /* content type of a streamed one */
    const char *opening;     /* what a stream begins with, sent with the head */
    const char *event;       /* one event, with STAMP in it */
    const char *closing;     /* the end: printf format of the number of events, and of that plus 200 */
};

#define OPENAI_WHOLE \
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1741569952,\"model\":\"gpt-4o-2026-08-06\"," \
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" PROSE "\",\"refusal\":null," \
    "\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":200," \
    "\"completion_tokens\":120,\"total_tokens\":320,\"prompt_tokens_details\":{\"cached_tokens\":0," \
    "\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}," \
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\"}"

/* One chunk of OpenAI's stream; with stream_options.include_usage each carries a usage of null but the last. */
#define OPENAI_CHUNK(choices, usage) \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1741569952," \
    "\"model\":\"gpt-4o-2026-08-06\",\"system_fingerprint\":\"fp_bench\",\"choices\":[" choices "]" usage "}\n\n"
#define OPENAI_CHOICE(delta, reason) "{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" reason "}"
#define OPENAI_ROLE OPENAI_CHOICE("\"role\":\"assistant\",\"content\":\"\"", "null")
#define OPENAI_TEXT OPENAI_CHOICE("\"content\":\" " STAMP "\"", "null")
#define OPENAI_STOP OPENAI_CHOICE("", "\"stop\"")
#define NO_USAGE ",\"usage\":null"
#define DONE "data: [DONE]\n\n"

static const struct dialect OPENAI = {
    "application/json",
    OPENAI_WHOLE,
    "text/event-stream",
    OPENAI_CHUNK(OPENAI_ROLE, ""),
    OPENAI_CHUNK(OPENAI_TEXT, ""),
    OPENAI_CHUNK(OPENAI_STOP, "") DONE,
};

static const struct dialect OPENAI_WITH_USAGE = {
    "application/json",
    OPENAI_WHOLE,
    "text/event-stream",
    OPENAI_CHUNK(OPENAI_ROLE, NO_USAGE),
    OPENAI_CHUNK(OPENAI_TEXT, NO_USAGE),
    OPENAI_CHUNK(OPENAI_STOP, NO_USAGE)
        OPENAI_CHUNK("", ",\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":%d,\"total_tokens\":%d}") DONE,
};

#define OLLAMA_LINE(content, rest) \
    "{\"model\":\"bench:latest\",\"created_at\":\"2026-08-04T08:52:19.385406Z\",\"message\":{\"role\":\"assistant\"," \
    "\"content\":\"" content "\"}," rest "}\n"
#define OLLAMA_END(count) \
    "\"done\":true,\"done_reason\":\"stop\",\"total_duration\":4883583458,\"load_duration\":1334875," \
    "\"prompt_eval_count\":200,\"prompt_eval_duration\":342546000,\"eval_count\":" count ",\"eval_duration\":4535599000"

static const struct dialect OLLAMA = {
    "application/json; charset=utf-8",
    OLLAMA_LINE(PROSE, OLLAMA_END("120")),
    "application/x-ndjson",
    "",
    OLLAMA_LINE(" " STAMP, "\"done\":false"),
    OLLAMA_LINE("", OLLAMA_END("%d")),
};

#define ANTHROPIC_MESSAGE(content, reason, output) \
    "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench\",\"content\":[" content "]," \
    "\"stop_reason\":" reason ",\"stop_sequence\":null,\"usage\":{\"input_tokens\":200," \
    "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":" output "}}"
#define ANTHROPIC_EVENT(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"

static const struct dialect ANTHROPIC = {
    "application/json",
    ANTHROPIC_MESSAGE("{\"type\":\"text\",\"text\":\"" PROSE "\"}", "\"end_turn\"", "120"),
    "text/event-stream; charset=utf-8",
    ANTHROPIC_EVENT("message_start", ",\"message\":" ANTHROPIC_MESSAGE("", "null", "1"))
        ANTHROPIC_EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
            ANTHROPIC_EVENT("ping", ""),
    ANTHROPIC_EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" " STAMP "\"}"),
    ANTHROPIC_EVENT("content_block_stop", ",\"index\":0")
        ANTHROPIC_EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                                         "\"usage\":{\"output_tokens\":%d}") ANTHROPIC_EVENT("message_stop", ""),
};

/* The model lists of the three, each with the one model "bench" (OpenAI's with what the routes rename to). */
#define OPENAI_MODELS \
    "{\"object\":\"list\",\"data\":[{\"id\":\"bench/gpt-4o\",\"object\":\"model\",\"created\":1741569952," \
    "\"owned_by\":\"bench\"}]}"
#define ANTHROPIC_MODELS \
    "{\"data\":[{\"type\":\"model\",\"id\":\"bench\",\"display_name\":\"Bench\"," \
    "\"created_at\":\"2026-08-04T00:00:00Z\"}],\"has_more\":false,\"first_id\":\"bench\",\"last_id\":\"bench\"}"
#define OLLAMA_DETAILS \
    "\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"llama\",\"families\":[\"llama\"]," \
    "\"parameter_size\":\"3.2B\",\"quantization_level\":\"Q4_K_M\"}"
#define OLLAMA_TAGS \
    "{\"models\":[{\"name\":\"bench:latest\",\"model\":\"bench:latest\",\"modified_at\":\"2026-08-04T08:52:19Z\"," \
    "\"size\":2019393189,\"digest\":\"a80c4f17acd5\"," OLLAMA_DETAILS "}]}"
#define OLLAMA_SHOW \
    "{\"modelfile\":\"\",\"parameters\":\"\",\"template\":\"{{ .Prompt }}\"," OLLAMA_DETAILS "," \
    "\"model_info\":{\"general.architecture\":\"llama\",\"llama.context_length\":131072}," \
    "\"capabilities\":[\"completion\",\"tools\"],\"modified_at\":\"2026-08-04T08:52:19Z\"}"

#endif
