"""The names of the benchmarks, for a command line that does not load them. Knows nothing else of them."""

BENCHMARK_NAMES = {
    "geneval": "GenEval",
    "geneval2": "GenEval 2",
    "dpg": "DPG-Bench",
    "genai-bench": "GenAI-Bench",
    "t2i-compbench": "T2I-CompBench++",
    "oneig": "OneIG-Bench",
    "unigenbench": "UniGenBench++",
    "tiif": "TIIF-Bench",
    "wise": "WISE (Verified)",
    "wise-legacy": "WISE before its verified version",
    "longtext": "LongText-Bench",
    "corebench": "T2I-CoReBench",
    "partiprompts": "PartiPrompts",
    "dsg": "DSG-1k",
}
