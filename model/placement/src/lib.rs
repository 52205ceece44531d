//! Objects, tiers and a budget in; a placement, and the curve of all budgets, out.
