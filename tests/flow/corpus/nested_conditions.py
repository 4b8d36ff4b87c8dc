"""Choices within choices."""

on = "order.created"


def main(country, amount):
    if country == "DE":
        if amount >= 100:
            emit("ship.free")
        else:
            emit("ship.paid")
        emit("tax.german")
    elif not amount > 0:
        emit("order.refused")
    else:
        emit("ship.abroad")


# expects: {
#     "country == 'DE'": [{"amount >= 100": "ship.free", "amount < 100": "ship.paid"}, "tax.german"],
#     "amount <= 0": "order.refused",
#     "otherwise": "ship.abroad",
# }
# ship.free      emit  possible
# ship.paid      emit  possible
# tax.german     emit  possible
# order.refused  emit  possible
# ship.abroad    emit  possible
