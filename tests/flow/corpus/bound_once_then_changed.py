"""A name that a branch may change, used after it."""

on = "payment.received"


def main(amount):
    name = "charge"
    if amount < 0:
        name = "refund"
    emit("billing." + name, amount=amount)


# expects: {"amount < 0": "billing.refund", "amount >= 0": "billing.charge"}
# billing.refund  emit  possible
# billing.charge  emit  possible
