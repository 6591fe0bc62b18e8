"""A Text Generation Inference container, release by release: everything but the model is as in TGI's own source.

    front ─▶ requests ─▶ unions shapes ─▶ jsonreader   what a body is, and serde's and axum's words for what is none
        ├─▶ generatejob                                /generate, /generate_stream, /
        ├─▶ chatjob ─▶ template toolcalls chatstream   /v1/chat/completions
        ├─▶ completionjob                              /v1/completions
        ├─▶ tokenizing                                 /tokenize, /chat_tokenize
        └─▶ infer ─▶ validation pictures answers       what is asked of the model, and what it says

https://github.com/huggingface/text-generation-inference: router/src
"""
