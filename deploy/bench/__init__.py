"""`lmi-bench`: what an endpoint does at rising concurrency, or at rising rates of calls.

cli ─▶ asked                             the command line, made into a plan (plan, amounts)
 ├───▶ measure ─▶ workers ─▶ loops       processes; stages: closed loops, open loops (arrivals), watch
 │                            ├▶ prompts              bodies: words, dataset, png
 │                            └▶ client ─▶ http1      one call: connections, signing
 │                                    └▶ answers      its answer: eventstream
 ├───▶ summary ─▶ stats, histogram       records made into figures
 ├───▶ runfile                           a run as JSON
 └───▶ table, compare, page ─▶ charts    reports
"""
