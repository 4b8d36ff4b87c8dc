"""The handlers are a choice after what the body may have generated; `finally` is for all."""

on = "number.given"


def main(text):
    try:
        number = int(text)
        emit("number.read", number=number)
    except ValueError as error:
        emit("number.bad", error=str(error))
    except (KeyError, TypeError):
        emit("number.missing")
    finally:
        emit("number.seen")


# expects: [
#     "number.read",
#     {"except ValueError": "number.bad", "except (KeyError, TypeError)": "number.missing"},
#     "number.seen",
# ]
# number.read     emit  possible
# number.bad      emit  possible
# number.missing  emit  possible
# number.seen     emit  certain
