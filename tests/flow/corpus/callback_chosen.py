"""A helper that decides which function is called."""

on = "upload.finished"


def big():
    emit("upload.big")


def small():
    emit("upload.small")


def choose(amount):
    return big if amount > 10 else small


def main(size):
    choose(size)()
    function = small
    if size == 50:
        function = big
    function()


# expects: [
#     {"amount > 10": "upload.big", "amount <= 10": "upload.small"},
#     {"size == 50": "upload.big", "size != 50": "upload.small"},
# ]
# upload.big    emit  possible
# upload.small  emit  possible
