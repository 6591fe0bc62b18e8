"""The words the engine knows as single tokens. Append only: a token's id is its place here."""

from __future__ import annotations

SPECIALS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|image_pad|>",
)
"""Ids 256 on, after the 256 bytes; https://huggingface.co/Qwen/Qwen3-0.6B has the same markup."""

INVISIBLE = frozenset({"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|image_pad|>"})
"""Left out of decoded text, unlike the markup that parsers read."""

_WORDS = """
the of and to a in is it you that he was for on are with as his they be at one have this from or had by hot but some
what there we can out other were all your when up use word how said an each she which do their time if will way about
many then them would write like so these her long make thing see him two has look more day could go come did my sound
no most number who over know water than call first people may down side been now find any new work part take get place
made live where after back little only round man year came show every good me give our under name very through just
form much great think say help low line before turn cause same mean differ move right boy old too does tell sentence
set three want air well also play small end put home read hand port large spell add even land here must big high such
follow act why ask men change went light kind off need house picture try us again animal point mother world near build
self earth father head stand own page should country found answer school grow study still learn plant cover food sun
four thought let keep eye never last door between city tree cross since hard start might story saw far sea draw left
late run while press close night real life few stop open seem together next white children begin got walk example ease
paper often always music those both mark book letter until mile river car feet care second group carry took rain eat
room friend began idea fish mountain north once base hear horse cut sure watch color face wood main enough plain girl
usual young ready above ever red list though feel talk bird soon body dog family direct pose leave song measure state
product black short numeral class wind question happen complete ship area half rock order fire south problem piece told
knew pass farm top whole king size heard best hour better true during hundred am remember step early hold west ground
interest reach fast five sing listen six table travel less morning ten simple several toward war lay against pattern
slow center love person money serve appear road map science rule govern pull cold notice voice fall power town fine
certain fly unit lead cry dark machine note wait plan figure star box noun field rest correct able pound done beauty
drive stood contain front teach week final gave green quick develop ocean warm free minute strong special mind behind
clear tail produce fact street inch lot nothing course stay wheel full force blue object decide surface deep moon
island foot system busy test record boat common gold possible plane age dry wonder laugh thousand ago ran check game
shape hello hi hey today weather degrees sunny celsius fahrenheit wrote image images tool call arguments null false
Paris Rome London user assistant system think json string integer boolean type properties required value values key
request response stream token tokens model models server client gateway endpoint answer answers words please thanks
greet greets asked about quote text plain reply careful quiet bright patient gentle lantern garden kettle teapot
window violin compass harbour meadow copper silver marble
"""
WORDS = tuple(_WORDS.split())

PUNCTUATION = (
    "\n\n", "\n\n\n", ".\n", ".\n\n", "!\n", "?\n", ",\n", ":\n", ":\n\n", "\t", "    ", "\r\n",
    '{"', '":', ' "', '",', '"}', '"}}', '":"', '","', '{"}', '"]', '["', '[{"', '}]', '}}', "},", "],", '":{"',
    "'s", "'t", "'re", "'ll", "...", "..", "--", "->", "=>", "==", "!=", "::", "//", "/*", "*/", "**", "__", "``",
    "```", " (", ").", "),", " =", " -", " +", " *", " /", " <", " >", " {", " [", " :", " .", " ,", " '", ' \\"',
    " —", " –", "—", "…", "“", "”", "’",
)  # fmt: skip
"""Pieces that are no word; some are several characters, some a whole character of several bytes."""
