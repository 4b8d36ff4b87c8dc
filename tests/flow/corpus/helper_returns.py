"""Names that helpers give back, alone and several at once."""

on = "upload.finished"


def name_for(amount):
    if amount > 10:
        return "big"
    return "small"


def both(kind):
    return f"{kind}.begun", f"{kind}.ended"


def main(size):
    emit(f"upload.{name_for(size)}")
    begun, ended = both("check")
    emit(begun)
    emit(ended)


# expects: [{"amount > 10": "upload.big", "amount <= 10": "upload.small"}, "check.begun", "check.ended"]
# upload.big    emit  possible
# upload.small  emit  possible
# check.begun   emit  certain
# check.ended   emit  certain
