-- What was there before the triggers.  They are of a migration of its own,
-- whose lock is gone by now: nobody is kept from writing while this counts.

SELECT edge_recount_usage();
