from w2vb_ray.maintain import traces


def test_a_short_value_is_looked_for_where_it_stands_alone():
    needles = [needle for value in ("7", "zoë") for needle in traces._spellings(value)]
    for text, found in [
        ('{"id": "7"}', 1),
        ('{"n": 7}', 0),
        ("<b>7</b>", 1),
        ("17", 0),
        ('"zo\\u00eb"', 1),
        ('"zoë"', 1),
    ]:
        assert traces._holds(text.encode(), needles) == found
