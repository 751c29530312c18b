"""Numbers that the paper prints."""

from __future__ import annotations

TABLE_3 = {  # Ours, Kontext, FlowEdit
    "background_change": (6.69, 6.93, 2.17),
    "color_alter": (7.55, 7.47, 3.54),
    "material_alter": (5.54, 5.50, 1.77),
    "motion_change": (6.88, 4.53, 5.24),
    "ps_human": (6.59, 3.94, 5.40),
    "style_change": (6.95, 5.90, 2.86),
    "subject-add": (7.36, 6.88, 3.99),
    "subject-remove": (1.91, 6.94, 2.43),
    "subject-replace": (5.74, 6.17, 4.06),
    "text_change": (2.10, 5.44, 2.84),
    "tone_transfer": (5.98, 6.10, 5.20),
}
