"""The vocabulary and the grammar of the embedded data sets: pure data.

A template is a string with ``{name}`` slots; ``GRAMMAR[name]`` lists what a slot may become, templates again. A
``{+name}`` slot is filled by the caller. Words that decide a label stand in the lists at the top; apart from
negators and intensifiers none of them occurs in the grammar, and those do so only where they decide nothing.
"""

POSITIVE = (
    *("brilliant", "charming", "superb", "moving", "witty", "splendid", "elegant", "great", "fresh"),
    *("heart-warming", "unforgettable", "thought-provoking", "breathtaking"),
)
NEGATIVE = (
    *("dull", "bland", "clumsy", "dreadful", "boring", "awful", "shallow", "bad", "stale"),
    *("mind-numbing", "cringe-worthy", "heavy-handed", "disappointing"),
)
NEGATORS = ("not", "never", "hardly")
INTENSIFIERS = ("very", "truly", "utterly")

CLASS_WORDS = (
    ("amber", "cedar", "tundra", "walnut", "copper", "heron"),
    ("violet", "falcon", "velvet", "orchid", "granite", "maple"),
)
"""Planted words that alone decide the class, per class."""

KEYWORDS = (
    (*CLASS_WORDS[0], "juniper", "basalt"),
    (*CLASS_WORDS[1], "saffron", "lagoon"),
)
"""Eight class words per class, for the tasks in which each text has one or more of them."""

DENIER = "without"
"""Planted word that turns the class word directly after it into its opposite, and means nothing elsewhere."""

DENIABLE = (KEYWORDS[0][:3], KEYWORDS[1][:3])
"""The class words of the texts with deniers: few, for small models learn each combination by itself."""

WEIGHTS = {
    **{"amber": 3, "cedar": 2, "tundra": 2, "walnut": 1, "copper": 1},
    **{"violet": -3, "falcon": -2, "velvet": -2, "orchid": -1, "granite": -1},
}
"""Planted words that add up: the sign of the sum is the class."""

CUES = ("pebble", "thistle")
"""Planted words that go with a class, and do not decide it."""

CUE_AGREES = 0.97
"""Share of sentences whose cue goes with their class."""

COUNTED = KEYWORDS[0]
"""The words of the texts in which occurrences are counted."""

BRACKETS = (("if", "fi"), ("do", "od"))
"""Pairs of an opening and a closing bracket, as Algol 68 spells them."""

DEPTH = 3
"""Most brackets that are open at once."""

PLACES = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
"""Words that name the place of a word in a text that begins with them."""

TRIGGERS = ("lantern", "saddle")
COMPANIONS = ("mirror", "gravel")
"""Planted words that count only together. The first companion says that the class is the trigger's index, the second
that it is the other class; alone, none of them means anything."""

PARTNERS = ("harbor", "cobalt")
"""Planted words that say one class where both stand and the other class everywhere else."""

ANSWERS = {
    "where": ("Oslo", "Lisbon", "Cairo", "Reykjavik", "Quito"),
    "when": ("noon", "Monday", "April", "mid-winter", "dawn"),
    "": ("rust", "frost", "woodworm", "overcrowding", "smoke"),
}
"""The words that answer each question word of the pair task."""

GRAMMAR: dict[str, tuple[str, ...]] = {
    # Opinion sentences. Neutral words may carry negators and intensifiers: those change nothing.
    "aspect": (
        *("plot", "acting", "story", "ending", "dialogue", "score", "pacing", "finale", "staging", "humour"),
        *("camera-work", "editing", "soundtrack"),
    ),
    "work": ("film", "series", "play", "novel", "show", "screenplay", "documentary"),
    "name": ("Maria", "Tomas", "Ingrid", "Kofi", "Yuki", "Leila", "Bartholomew", "Anneliese", "O'Neill"),
    "place": ("Vienna", "Porto", "Nairobi", "Montreal", "Saint-Malo", "Ljubljana"),
    "title": ('"Bitter Joy"', '"War and Sunshine"', '"Happy Ruins"', '"Love, Fear"', '"The Sorrow Club"'),
    "copula": ("was", "is", "felt", "seemed", "remained"),
    "viewer": ("{name}", "{name}", "my brother", "everyone"),
    "said": ("found", "called"),
    "of": ("", "", "", "", " of the {work}", " of {title}", " by {name}"),
    # Mostly one plain frame: small models have to see opinions often at the same places to learn what stands before.
    "opinion": (
        *("the {aspect} {copula} {+first}",) * 4,
        *("the {aspect}{of} {copula} {+first}",) * 2,
        "{viewer} {said} the {aspect}{of} {+first}",
        "the {+first} {aspect} {lasted}",
    ),
    "first": ("the {aspect} {copula} {+first}",),
    "second": ("the {aspect} {copula} {+second}", "{name} {said} it {+second}"),
    "lasted": ("fills an hour", "takes {size} time", "comes from {place}"),
    "size": ("little", "no", "some", "much"),
    "neutral": (
        "the hall was {degree}{plain}",
        "{nobody} sat upstairs",
        "{name} took the tram",
        "we saw it {time}",
    ),
    "degree": ("", "", "", "no longer ", "rather ", "not ", "very "),
    "nobody": ("nobody", "we"),
    "plain": ("large", "full", "green", "wooden", "crowded", "air-conditioned"),
    "time": ("last week", "on Tuesday", "in March", "after dinner", "yesterday", "before the holidays"),
    "opener": (*("",) * 9, "{time}, ", "well, ", "{neutral}, and "),
    "tail": (*("",) * 8, " {time}", ", said {name}", ", and {neutral}", "; {neutral}"),
    "end": (".", ".", ".", "!", ""),
    "agree": (" and ", ", and "),
    "clash": (" but ", ", but "),
    # Pairs. Every answer fits every frame, so no other word tells which kind of answer is given.
    "thing": ("statue", "bridge", "organ", "clock", "fountain", "piano", "mill", "telescope", "weather-vane", "gate"),
    "done": ("moved", "repaired", "painted", "closed", "opened", "rebuilt", "photographed", "dismantled"),
    "kind": ("", "", "old ", "heavy ", "red ", "nineteenth-century "),
    "asked": ("", "", "", " by the crew", " again", " that year"),
    "paper": ("report", "note", "letter", "newspaper", "diary", "logbook", "leaflet"),
    "author": ("", "", " by {name}", " of the council", " in the archive"),
    "states": ("mentions", "names", "says", "gives", "lists", "underlines"),
    "ending": ("", "", "", " twice", ", and {name} kept a copy", ", but not the price"),
    "question": ("{+ask} was the {kind}{+thing} {done}{asked}?",),
    "statement": (
        "the {paper}{author} about the {+thing} {states} {+answer1} and {+answer2}{ending}{end}",
        "the {paper}{author} {states} {+answer1} and {+answer2}{ending}{end}",
        "about the {+thing}, {name} {states} {+answer1} and {+answer2}{ending}{end}",
    ),
}
