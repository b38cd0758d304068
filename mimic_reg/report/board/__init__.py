"""The board: models x methods x tasks, made again from run folders alone.

A row has the scores of one model with one method, what it was tuned with, and the command that
makes it. Only rows on the same data, task and training size are compared. They get ranks only if
all of them were tuned with equal budgets; if not, the page says so.
"""

from mimic_reg.report.board.page import COLUMNS, cells, document, write_board
from mimic_reg.report.board.rows import Board, Row, collect_board

__all__ = ["COLUMNS", "Board", "Row", "cells", "collect_board", "document", "write_board"]
