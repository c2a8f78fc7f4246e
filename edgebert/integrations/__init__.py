"""EdgeBERT inside the frameworks that people embed with: one module each, which imports its framework.

    langchain      EdgeBertEmbeddings
    llama_index    EdgeBertEmbedding
    haystack       EdgeBertTextEmbedder, EdgeBertDocumentEmbedder
    mteb           EdgeBertEncoder
    scikit_learn   EdgeBertVectorizer

Every vector is the one that `Embedder.encode`, `encode_query` or `encode_document` gives.
"""
