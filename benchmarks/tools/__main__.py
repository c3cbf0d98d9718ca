"""Run the checks with other tools: python -m benchmarks.tools [llama_factory vllm …]"""

import sys

from benchmarks.tools import harness

if __name__ == "__main__":
    sys.exit(harness.main(sys.argv[1:]))
