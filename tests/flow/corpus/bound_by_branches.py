"""A name that branches bind, used after them."""

on = "payment.received"


def main(amount):
    if amount < 0:
        name = "refund"
    else:
        name = "charge"
    log(f"a {name}")
    emit(f"billing.{name}", amount=amount)


# expects: {"amount < 0": "billing.refund", "amount >= 0": "billing.charge"}
# billing.refund  emit  possible
# billing.charge  emit  possible
