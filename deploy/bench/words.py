"""Short, frequent English words: with the space before it, nearly each is one token for the usual tokenizers."""

_TEXT = """
about above across after again against air all almost along already also always among and animal another answer any
around art ask away back bad bank base be bear because become bed before began behind being below best better
between big bird black blood blue board boat body book both box boy bring brother brown build built busy but buy
call came car care carry case cause center chance change child choose church circle city class clean clear close
cold color come common complete corner correct cost could country course cover cross cry cut dark day dead deal
decide deep differ direct distance do doctor dog done door down draw dream dress drink drive drop dry during each
early earth east easy eat edge effect egg eight either else end energy engine enough enter equal even evening ever
every exact example eye face fact fall family famous far farm fast father fear feel few field fight figure fill
final find fine finger finish fire first fish five floor flow fly follow food foot for force forest form forward
four free fresh friend from front fruit full game garden gave general get girl give glass go gold gone good got
govern grand great green ground group grow had hair half hand happen hard has hat have he head hear heart heat
heavy held help here high hill history hold hole home hope horse hot hour house how human hundred hunt ice idea if
inch include industry instant interest iron island job join jump just keep kept key kind king knew know lady lake
land language large last late laugh law lead learn least leave left less let letter level life lift light like
line list listen little live long look lost lot loud love low machine made main make man many map mark market mass
master material matter mean measure meat meet metal method middle might mile milk million mind minute miss modern
moment money month moon more morning most mother motion mountain mouth move much music must name nation natural
near need never new next night nine noise north nose note nothing notice noun now number object ocean off offer
office often oil old once one only open order other our out over own page paint paper part party pass past path
pattern pay people perhaps person picture piece place plain plan plane planet plant play point poor port position
possible post pound power present press print problem process produce product proper prove pull pure push put
question quick quiet race radio rain ran reach read ready real reason record red region remember repeat report
represent rest result rich ride right ring rise river road rock room root rope rose round rule run safe said sail
salt same sand save saw say school science sea season seat second section see seed seem select self sell send
sense sentence separate serve set seven several shape share sharp she ship shoe shop short should shoulder show
side sign silent silver simple since sing single sister sit six size skin sky sleep slip slow small smell smile
snow so soft soil some son song soon sound south space speak special speed spell spend spoke spot spread spring
square stand star start state station stay steel step still stone stood stop store story straight strange stream
street string strong student study subject such sudden sugar suit summer sun support sure surface surprise swim
symbol system table tail take talk tall teach team tell temperature ten term test than thank that their them then
there these thick thin thing think third this those though thought thousand three through time tiny together told
tone too took tool top total touch toward town track trade train travel tree triangle trip trouble truck true try
tube turn twenty two type under unit until up us use usual valley value vary very view village visit voice wait
walk wall want war warm was wash watch water wave way we wear weather week weight well went were west what wheel
when where which while white who whole why wide wife wild will win wind window winter wish with woman wonder wood
word work world would write wrong yard year yellow yes yet you young
"""
WORDS: tuple[str, ...] = tuple(_TEXT.split())
