"""Looking back at a run: status, doctor, results, one image, contact sheets.

Changes nothing that was rendered; does not know how a run is planned.
"""
